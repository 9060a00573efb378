//! What instructions do with the pointers and images they are given.

use rspirv::spirv::{Capability, Op, StorageClass};

/// What an instruction does with an operand that leads to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Its result leads to the same descriptor.
    Passes,
    /// It loads through it: of a buffer a value, of an image variable the image.
    Loads,
    /// It reads.
    Reads,
    /// It hands it to a function, as the parameter that comes one before the operand.
    Hands,
    /// Everything else: it writes, or puts the operand where nobody follows it.
    Writes,
}

/// The use of the operand with this index.
pub(super) fn of_operand(op: Op, index: usize) -> Use {
    match op {
        Op::AccessChain
        | Op::InBoundsAccessChain
        | Op::PtrAccessChain
        | Op::InBoundsPtrAccessChain
        | Op::UntypedAccessChainKHR
        | Op::UntypedInBoundsAccessChainKHR
        | Op::UntypedPtrAccessChainKHR
        | Op::UntypedInBoundsPtrAccessChainKHR
        | Op::CopyObject
        | Op::ImageTexelPointer => Use::Passes,
        Op::Load => Use::Loads,
        Op::AtomicLoad
        | Op::ArrayLength
        | Op::UntypedArrayLengthKHR
        | Op::CooperativeMatrixLoadKHR
        | Op::ImageRead
        | Op::ImageSparseRead
        | Op::ImageQueryFormat
        | Op::ImageQueryLevels
        | Op::ImageQueryOrder
        | Op::ImageQuerySamples
        | Op::ImageQuerySize
        | Op::ImageQuerySizeLod => Use::Reads,
        // To the first operand, from the second.
        Op::CopyMemory | Op::CopyMemorySized if index == 1 => Use::Reads,
        Op::FunctionCall if index > 0 => Use::Hands,
        _ => Use::Writes,
    }
}

/// Whether an instruction may write through a physical pointer that is its operand with this index. Where the
/// pointer goes does not matter: whoever writes through it later has an operand of such a type, too.
pub(super) fn writes_physical(op: Op, index: usize) -> bool {
    match op {
        Op::FunctionCall
        | Op::ReturnValue
        | Op::Phi
        | Op::Select
        | Op::Bitcast
        | Op::ConvertPtrToU
        | Op::CompositeConstruct
        | Op::CompositeExtract
        | Op::CompositeInsert
        | Op::CopyLogical
        | Op::PtrEqual
        | Op::PtrNotEqual
        | Op::PtrDiff => false,
        Op::Store => index == 0,
        op => of_operand(op, index) == Use::Writes,
    }
}

/// Whether an instruction may write in ways that its operands do not tell: it calls functions that it names
/// among other operands, or writes through handles made of numbers.
pub(super) fn is_opaque(op: Op) -> bool {
    matches!(
        op,
        Op::CooperativeMatrixReduceNV
            | Op::CooperativeMatrixPerElementOpNV
            | Op::CooperativeMatrixLoadTensorNV
            | Op::ConvertUToImageNV
            | Op::ConvertHandleToImageINTEL
            | Op::FunctionPointerCallINTEL
            | Op::AsmCallINTEL
    )
}

/// Whether modules with a capability are beyond this analysis: languages that are not Vulkan's, code that is
/// elsewhere, memory that is neither a descriptor's nor a pointer's.
pub(super) fn is_beyond(capability: Capability) -> bool {
    matches!(
        capability,
        Capability::Kernel
            | Capability::Addresses
            | Capability::Linkage
            | Capability::BindlessTextureNV
            | Capability::ShaderEnqueueAMDX
    )
}

/// What a variable's storage class says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// Shaders can only read it, or it is the shader's own, or goes to other stages.
    Private,
    /// Storage buffers.
    Buffers,
    /// Uniform buffers, and storage buffers as they used to be declared.
    Uniforms,
    /// Images and samplers.
    Images,
    /// Nobody thought of it.
    Unknown,
}

impl Storage {
    pub(super) fn of(class: StorageClass) -> Self {
        match class {
            StorageClass::Input
            | StorageClass::Output
            | StorageClass::Workgroup
            | StorageClass::Private
            | StorageClass::Function
            | StorageClass::PushConstant
            | StorageClass::TaskPayloadWorkgroupEXT
            | StorageClass::RayPayloadKHR
            | StorageClass::IncomingRayPayloadKHR
            | StorageClass::HitAttributeKHR
            | StorageClass::CallableDataKHR
            | StorageClass::IncomingCallableDataKHR
            | StorageClass::ShaderRecordBufferKHR => Self::Private,
            StorageClass::StorageBuffer => Self::Buffers,
            StorageClass::Uniform => Self::Uniforms,
            StorageClass::UniformConstant => Self::Images,
            _ => Self::Unknown,
        }
    }
}
