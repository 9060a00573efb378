//! Pointers to physical storage.

use super::*;

/// `main` over a pushed pointer to a number in physical storage.
fn with_pointer(main: &'static str, functions: &'static str) -> ShaderWrites {
    let decorations = if functions.contains("%parameter") {
        "OpDecorate %pushed Block
            OpMemberDecorate %pushed 0 Offset 0
            OpDecorate %parameter Aliased"
    } else {
        "OpDecorate %pushed Block
            OpMemberDecorate %pushed 0 Offset 0"
    };
    Source {
        preamble: "OpCapability PhysicalStorageBufferAddresses
            OpExtension \"SPV_KHR_physical_storage_buffer\"",
        interface: "%push",
        decorations,
        globals: "%number_at = OpTypePointer PhysicalStorageBuffer %u32
            %pushed = OpTypeStruct %number_at
            %pushed_at = OpTypePointer PushConstant %pushed
            %member_at = OpTypePointer PushConstant %number_at
            %push = OpVariable %pushed_at PushConstant
            %takes = OpTypeFunction %void %number_at",
        main,
        functions,
    }
    .writes()
}

#[test]
fn a_load_through_one_does_not_write() {
    let writes = with_pointer(
        "%member = OpAccessChain %member_at %push %c0
        %pointer = OpLoad %number_at %member
        %value = OpLoad %u32 %pointer Aligned 4",
        "",
    );
    assert_eq!(writes, bindings(&[]));
}

#[test]
fn a_store_through_one_does() {
    let writes = with_pointer(
        "%member = OpAccessChain %member_at %push %c0
        %pointer = OpLoad %number_at %member
        OpStore %pointer %c1 Aligned 4",
        "",
    );
    assert_eq!(writes, ShaderWrites { addresses: true, ..ShaderWrites::default() });
}

#[test]
fn a_called_function_stores_for_its_caller() {
    let call = "%member = OpAccessChain %member_at %push %c0
        %pointer = OpLoad %number_at %member
        %result = OpFunctionCall %void %callee %pointer";
    let writes = with_pointer(
        call,
        "%callee = OpFunction %void None %takes
        %parameter = OpFunctionParameter %number_at
        %callee_entry = OpLabel
        %before = OpAtomicIAdd %u32 %parameter %c1 %c0 %c1
        OpReturn
        OpFunctionEnd",
    );
    assert!(writes.addresses);
    let writes = with_pointer(
        call,
        "%callee = OpFunction %void None %takes
        %parameter = OpFunctionParameter %number_at
        %callee_entry = OpLabel
        %value = OpLoad %u32 %parameter Aligned 4
        OpReturn
        OpFunctionEnd",
    );
    assert!(!writes.addresses, "handing a pointer on writes nothing");
}
