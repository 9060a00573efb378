//! The Khronos validation layer's messages, collected.

use ash::vk;
use std::ffi::{CStr, c_void};
use std::sync::Mutex;

/// The layer whose messages are collected.
pub const LAYER: &CStr = c"VK_LAYER_KHRONOS_validation";

/// Messages of one instance, in order.
///
/// Lives as long as the process: the layer may speak during the very destruction of its instance.
#[derive(Debug, Default)]
pub struct Messages {
    texts: Mutex<Vec<String>>,
}

impl Messages {
    pub(crate) fn leak() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Returns all warnings and errors so far.
    ///
    /// # Panics
    ///
    /// If a thread panicked while it added one.
    pub fn all(&self) -> Vec<String> {
        self.texts.lock().expect("no panic under this lock").clone()
    }

    pub(crate) fn create_info(&'static self) -> vk::DebugUtilsMessengerCreateInfoEXT<'static> {
        let this: *const Self = self;
        vk::DebugUtilsMessengerCreateInfoEXT::default()
            .message_severity(
                vk::DebugUtilsMessageSeverityFlagsEXT::WARNING | vk::DebugUtilsMessageSeverityFlagsEXT::ERROR,
            )
            .message_type(
                vk::DebugUtilsMessageTypeFlagsEXT::GENERAL
                    | vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION
                    | vk::DebugUtilsMessageTypeFlagsEXT::PERFORMANCE,
            )
            .pfn_user_callback(Some(collect))
            .user_data(this.cast_mut().cast::<c_void>())
    }
}

unsafe extern "system" fn collect(
    _severity: vk::DebugUtilsMessageSeverityFlagsEXT,
    _kind: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    user: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: `user` is the leaked `Messages` that `create_info` handed over.
    let messages = unsafe { &*user.cast::<Messages>() };
    // SAFETY: The layer passes a valid structure for the time of the call.
    let data = unsafe { &*data };
    let text = if data.p_message.is_null() {
        "(no text)".to_owned()
    } else {
        // SAFETY: Not null, and the layer's message is a C string.
        unsafe { CStr::from_ptr(data.p_message) }.to_string_lossy().into_owned()
    };
    messages.texts.lock().expect("no panic under this lock").push(text);
    vk::FALSE
}
