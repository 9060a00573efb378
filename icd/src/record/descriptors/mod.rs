//! Descriptor sets, as far as shaders can write through them.
//!
//! Only storage buffers, storage images and storage texel buffers are kept; all others cost a look at their
//! type. A descriptor is kept as what stood behind it when it was written: views are resolved then.

mod layout;
mod set;
#[cfg(test)]
mod tests;
mod update;

pub(crate) use layout::BindingInfo;
pub use layout::SetLayout;
pub use set::{Bindings, DescriptorSet, Descriptors, Pool, Target};
pub use update::{Template, copy, update_sets, update_with_template};
