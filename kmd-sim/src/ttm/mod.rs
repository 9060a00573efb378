//! Guest pages for buffer objects: the translation table manager's part of the kernel
//! (`drivers/gpu/drm/ttm`), as far as a driver in user space has need of it.

pub mod bo;
