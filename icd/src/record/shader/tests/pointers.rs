//! Pointers that do not go straight from a variable to the instruction that writes.

use super::*;

/// Buffer 0 and what `%callee` does with `%parameter`, which is handed on to it by `%between`.
fn handed(decorations: &'static str, callee: &str) -> ShaderWrites {
    let functions = format!(
        "%between = OpFunction %void None %takes
        %passed = OpFunctionParameter %buffer
        %between_entry = OpLabel
        %deeper = OpFunctionCall %void %callee %passed
        OpReturn
        OpFunctionEnd
        %callee = OpFunction %void None %takes
        %parameter = OpFunctionParameter %buffer
        %callee_entry = OpLabel
        {callee}
        OpReturn
        OpFunctionEnd"
    );
    Source {
        preamble: "OpCapability VariablePointersStorageBuffer",
        interface: "%given %other",
        decorations,
        globals: "%given = OpVariable %buffer StorageBuffer
            %other = OpVariable %buffer StorageBuffer
            %takes = OpTypeFunction %void %buffer",
        main: "%result = OpFunctionCall %void %between %given",
        functions: functions.leak(),
    }
    .writes()
}

const PLAIN: &str = "OpDecorate %given DescriptorSet 0
    OpDecorate %given Binding 0
    OpDecorate %other DescriptorSet 0
    OpDecorate %other Binding 1";
const STORE: &str = "%to = OpAccessChain %field %parameter %c0
    OpStore %to %c1";
/// Into the parameter, one way or another.
const CHOOSE: &str = "%chosen = OpSelect %buffer %true %parameter %other
    %to = OpAccessChain %field %chosen %c0
    OpStore %to %c1";

#[test]
fn what_a_called_function_writes_its_caller_does() {
    assert_eq!(handed(PLAIN, STORE), bindings(&[(0, 0)]));
    assert_eq!(handed(PLAIN, CHOOSE), bindings(&[(0, 0), (0, 1)]));
}

#[test]
fn what_a_called_function_reads_its_caller_does() {
    let load = "%from = OpAccessChain %field %parameter %c0
        %value = OpLoad %u32 %from";
    assert_eq!(handed(PLAIN, load), bindings(&[]));
}

#[test]
fn a_variable_that_is_not_writable_stays_so_wherever_it_gets() {
    let variable = "OpDecorate %given DescriptorSet 0
        OpDecorate %given Binding 0
        OpDecorate %given NonWritable
        OpDecorate %other DescriptorSet 0
        OpDecorate %other Binding 1";
    assert_eq!(handed(variable, CHOOSE), bindings(&[(0, 1)]));
    let members = "OpDecorate %given DescriptorSet 0
        OpDecorate %given Binding 0
        OpDecorate %other DescriptorSet 0
        OpDecorate %other Binding 1
        OpMemberDecorate %block 0 NonWritable";
    assert_eq!(handed(members, CHOOSE), bindings(&[]));
}

#[test]
fn a_returned_pointer_is_written() {
    let source = Source {
        preamble: "OpCapability VariablePointersStorageBuffer",
        interface: "%given",
        decorations: "OpDecorate %given DescriptorSet 0
            OpDecorate %given Binding 0",
        globals: "%given = OpVariable %buffer StorageBuffer
            %gives = OpTypeFunction %buffer %buffer",
        main: "%back = OpFunctionCall %buffer %callee %given
            %to = OpAccessChain %field %back %c0
            OpStore %to %c1",
        functions: "%callee = OpFunction %buffer None %gives
            %parameter = OpFunctionParameter %buffer
            %callee_entry = OpLabel
            OpReturnValue %parameter
            OpFunctionEnd",
    };
    assert_eq!(source.writes(), bindings(&[(0, 0)]));
}

#[test]
fn one_writable_member_suffices() {
    let source = Source {
        interface: "%pair",
        decorations: "OpDecorate %pair DescriptorSet 0
            OpDecorate %pair Binding 0
            OpDecorate %two Block
            OpMemberDecorate %two 0 Offset 0
            OpMemberDecorate %two 0 NonWritable
            OpMemberDecorate %two 1 Offset 4",
        globals: "%two = OpTypeStruct %u32 %u32
            %two_at = OpTypePointer StorageBuffer %two
            %pair = OpVariable %two_at StorageBuffer",
        main: "%to = OpAccessChain %field %pair %c1
            OpStore %to %c4",
        ..Source::default()
    };
    assert_eq!(source.writes(), bindings(&[(0, 0)]));
}

#[test]
fn a_choice_between_pointers_writes_both() {
    let source = Source {
        preamble: "OpCapability VariablePointersStorageBuffer",
        interface: "%one %other",
        decorations: "OpDecorate %one DescriptorSet 0
            OpDecorate %one Binding 0
            OpDecorate %other DescriptorSet 0
            OpDecorate %other Binding 1",
        globals: "%one = OpVariable %buffer StorageBuffer
            %other = OpVariable %buffer StorageBuffer",
        main: "%in_one = OpAccessChain %field %one %c0
            %in_other = OpAccessChain %field %other %c0
            %chosen = OpSelect %field %true %in_one %in_other
            OpStore %chosen %c1",
        ..Source::default()
    };
    assert_eq!(source.writes(), bindings(&[(0, 0), (0, 1)]));
}

#[test]
fn a_pointer_hidden_in_an_initial_value_writes() {
    let source = Source {
        preamble: "OpCapability VariablePointers",
        interface: "%hidden %holder",
        decorations: "OpDecorate %hidden DescriptorSet 0
            OpDecorate %hidden Binding 6",
        globals: "%hidden = OpVariable %buffer StorageBuffer
            %holds = OpTypePointer Private %buffer
            %holder = OpVariable %holds Private %hidden",
        main: "%taken = OpLoad %buffer %holder
            %to = OpAccessChain %field %taken %c0
            OpStore %to %c1",
        ..Source::default()
    };
    assert_eq!(source.writes(), bindings(&[(0, 6)]));
}
