//! Commands whose first argument is an object of ours and that otherwise pass through.
//!
//! There is no telling their other arguments, and no need to: a stub puts the handle below in the place of
//! the first argument, where the calling convention has it, and goes on to the layer's function. Stubs are
//! made by the assembler; which function one goes on to is written beside them when it is given out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ash::vk;

/// There are some 500 commands on devices, queues and command buffers.
const COUNT: usize = 1024;
/// Bytes of a stub.
const SIZE: usize = 16;

/// What each stub goes on to.
static TARGETS: [AtomicUsize; COUNT] = [const { AtomicUsize::new(0) }; COUNT];

std::arch::global_asm!(
    ".pushsection .text",
    ".balign {size}",
    ".hidden validated_host_stubs",
    ".globl validated_host_stubs",
    "validated_host_stubs:",
    ".set validated_host_at, 0",
    ".rept {count}",
    ".balign {size}",
    "mov rdi, qword ptr [rdi + 8]",
    "jmp qword ptr [rip + {targets} + validated_host_at]",
    ".set validated_host_at, validated_host_at + 8",
    ".endr",
    ".popsection",
    size = const SIZE,
    count = const COUNT,
    targets = sym TARGETS,
);

unsafe extern "C" {
    static validated_host_stubs: u8;
}

/// The stub of a function; always the same, since Lockstep compares the functions of devices.
pub fn stub(target: unsafe extern "system" fn()) -> vk::PFN_vkVoidFunction {
    static GIVEN: Mutex<Option<HashMap<usize, usize>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    let free = given.len();
    let index = *given.entry(target as usize).or_insert(free);
    let Some(slot) = TARGETS.get(index) else { crate::fail("too many commands") };
    slot.store(target as usize, Ordering::Release);
    let stub = (&raw const validated_host_stubs).wrapping_add(index * SIZE);
    // SAFETY: code that may be called as whatever `target` may be called.
    Some(unsafe { std::mem::transmute::<*const u8, unsafe extern "system" fn()>(stub) })
}
