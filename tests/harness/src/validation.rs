//! The Khronos validation layer: above all tests or below, and its messages collected where a test asks for
//! that.
//!
//! `LOCKSTEP_TEST_VALIDATION=above` puts it between every test and the driver under test, `below` between
//! Lockstep and its host (`tests/validated-host`). It ends the process at its first warning or error, as its
//! settings (`vk_layer_settings.txt`) say, which also name its own errors. What a test does wrong on purpose
//! it says itself ([`ignore`]).

use crate::loader::{set, skip};
use ash::vk;
use std::ffi::{CStr, c_void};
use std::sync::Mutex;

/// The layer whose messages are collected.
pub const LAYER: &CStr = c"VK_LAYER_KHRONOS_validation";

const SETTINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vk_layer_settings.txt");

/// Where the layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between the tests and the driver under test.
    Above,
    /// Between Lockstep and its host.
    Below,
}

/// Returns whether all tests run with the layer there.
///
/// # Panics
///
/// If `LOCKSTEP_TEST_VALIDATION` names no place.
pub fn is(place: Place) -> bool {
    match std::env::var("LOCKSTEP_TEST_VALIDATION").as_deref() {
        Err(_) | Ok("") => false,
        Ok("above") => place == Place::Above,
        Ok("below") => place == Place::Below,
        Ok(other) => panic!("LOCKSTEP_TEST_VALIDATION={other}: neither above nor below"),
    }
}

/// Returns whether a test that puts the layer above itself must be left out, and says so: one process has
/// room for one of it.
pub fn is_taken() -> bool {
    let taken = is(Place::Below);
    if taken {
        skip("the validation layer is below Lockstep");
    }
    taken
}

/// Tells the loader and the layer what they read from the environment.
pub(crate) fn prepare() {
    if is(Place::Above) || is(Place::Below) {
        if std::env::var_os("VK_LAYER_SETTINGS_PATH").is_none() {
            set("VK_LAYER_SETTINGS_PATH", SETTINGS);
        }
        if is(Place::Above) {
            set("VK_INSTANCE_LAYERS", LAYER.to_str().expect("ASCII"));
        }
    }
}

/// Has the layer let messages of these names pass, for a reason: a test breaks rules of Vulkan on purpose, or
/// the layer errs. To be called before the process makes an instance, once.
pub fn ignore(vuids: &[&str], reason: &str) {
    println!("the validation layer ignores {vuids:?}: {reason}");
    set("VK_LAYER_MESSAGE_ID_FILTER", vuids.join(":"));
}

/// Leaves it to a test to put the layer above itself, and to listen. To be called before the process makes an
/// instance.
pub fn is_the_tests_own() {
    set("LOCKSTEP_TEST_VALIDATION", "");
}

/// Has the layer pass what follows a submission that was refused: it takes it for one that is pending. To be
/// called before the process makes an instance.
pub fn refusals_are_not_pending() {
    ignore(
        &[
            "VUID-vkBeginCommandBuffer-commandBuffer-00049",
            "VUID-vkDestroyBuffer-buffer-00922",
            "VUID-vkDestroyCommandPool-commandPool-00041",
            "VUID-vkDestroyFence-fence-01120",
            "VUID-vkDestroySemaphore-semaphore-01137",
            "VUID-vkQueueSubmit-fence-00064",
            "VUID-vkQueueSubmit-pCommandBuffers-00071",
            "VUID-vkQueueSubmit2-commandBuffer-03875",
            "VUID-vkQueueSubmit2-fence-04895",
            "VUID-VkSubmitInfo2-semaphore-03882",
        ],
        "a submission was refused, or the device is lost",
    );
}

/// Has the layer pass what follows where it loses count of a timeline, as it says itself ("most likely a
/// validation bug"): it then takes all that the timeline tells of for pending. To be called before the
/// process makes an instance.
pub fn loses_count_of_timelines(reason: &str) {
    ignore(
        &[
            "UNASSIGNED-VkFence-state-timeout",
            "UNASSIGNED-VkQueue-state-timeout",
            "UNASSIGNED-VkSemaphore-state-timeout",
            "VUID-vkDestroyCommandPool-commandPool-00041",
            "VUID-vkDestroySemaphore-semaphore-01137",
        ],
        reason,
    );
}

/// Has the layer pass on handles as they are, and take no memory for unmapped. For tests that map by commands
/// which are younger than the layer: it would leave its own handles in their structures. To be called before
/// the process makes an instance.
pub fn is_older_than_map_memory2() {
    set("VK_LAYER_DISABLES", "VK_VALIDATION_FEATURE_DISABLE_UNIQUE_HANDLES_EXT");
    ignore(
        &[
            "VUID-vkMapMemory-memory-00678",
            "VUID-vkUnmapMemory-memory-00689",
            "VUID-VkMappedMemoryRange-memory-00684",
            "VUID-VkMappedMemoryRange-size-00685",
        ],
        "it knows neither vkMapMemory2KHR nor vkUnmapMemory2KHR",
    );
}

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
