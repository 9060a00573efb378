//! What is printed before the scene starts: which device, which driver, which kinds of memory.

use ash::vk;

use crate::memory::{MemoryKind, Sync};
use crate::say;
use crate::vulkan::Choice;

const FLAG_NAMES: [(vk::MemoryPropertyFlags, &str); 6] = [
    (vk::MemoryPropertyFlags::DEVICE_LOCAL, "DEVICE_LOCAL"),
    (vk::MemoryPropertyFlags::HOST_VISIBLE, "HOST_VISIBLE"),
    (vk::MemoryPropertyFlags::HOST_COHERENT, "HOST_COHERENT"),
    (vk::MemoryPropertyFlags::HOST_CACHED, "HOST_CACHED"),
    (vk::MemoryPropertyFlags::LAZILY_ALLOCATED, "LAZILY_ALLOCATED"),
    (vk::MemoryPropertyFlags::PROTECTED, "PROTECTED"),
];

/// Prints the device, its driver, and the table of memory types.
pub(crate) fn print(choice: &Choice) {
    let version = choice.api_version;
    let numbers =
        [vk::api_version_major(version), vk::api_version_minor(version), vk::api_version_patch(version)];
    say!("Device   {}", choice.name);
    match &choice.driver {
        Some(driver) => say!("Driver   {}: {}", driver.name, driver.info),
        None => say!("Driver   unnamed"),
    }
    say!("Vulkan   {}.{}.{}", numbers[0], numbers[1], numbers[2]);
    say!("Memory   type  heap  {:<56} meaning", "flags");
    for (index, kind) in (0u32..).zip(choice.memory.memory_types_as_slice()) {
        let flags = flag_names(kind.property_flags);
        say!("         {index:>4}  {:>4}  {flags:<56} {}", kind.heap_index, meaning(choice, index));
    }
    say!("");
}

/// The type that is coherent by the host's own means, which `LOCKSTEP_NATIVE_TYPE=1` adds as the last one.
pub(crate) fn native_kind(choice: &Choice) -> Option<MemoryKind> {
    let asked = choice.is_lockstep() && std::env::var("LOCKSTEP_NATIVE_TYPE").is_ok_and(|value| value == "1");
    let index = choice.memory.memory_type_count.checked_sub(1).filter(|_| asked)?;
    let flags = choice.memory.memory_types[index as usize].property_flags;
    let emulated = MemoryKind::find(&choice.memory, Sync::Coherent)?;
    let native = flags.contains(vk::MemoryPropertyFlags::HOST_COHERENT) && emulated.index != index;
    native.then_some(MemoryKind { index, sync: Sync::Coherent })
}

fn meaning(choice: &Choice, index: u32) -> &'static str {
    let flags = choice.memory.memory_types[index as usize].property_flags;
    let native = native_kind(choice).is_some_and(|kind| kind.index == index);
    if !flags.contains(vk::MemoryPropertyFlags::HOST_VISIBLE) {
        "device-only"
    } else if !flags.contains(vk::MemoryPropertyFlags::HOST_COHERENT) {
        "explicit: flush and invalidate"
    } else if choice.is_lockstep() && !native {
        "coherent, emulated"
    } else {
        "coherent, the host's own"
    }
}

fn flag_names(flags: vk::MemoryPropertyFlags) -> String {
    let names: Vec<&str> =
        FLAG_NAMES.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| *name).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(" ") }
}
