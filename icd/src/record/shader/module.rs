//! One pass over a module.

use std::collections::{BTreeSet, HashMap, HashSet};

use rspirv::binary::{Consumer, ParseAction, ParseState, parse_words};
use rspirv::dr::{Instruction, ModuleHeader, Operand};
use rspirv::spirv::{Decoration, Dim, ExecutionModel, Op, StorageClass, Word};

use super::ShaderWrites;
use super::analysis::{Storage, Use, is_beyond, is_opaque, of_operand, writes_physical};

/// An entry point and what it may write.
#[derive(Debug)]
pub(super) struct EntryPoint {
    pub(super) model: ExecutionModel,
    pub(super) name: String,
    pub(super) writes: ShaderWrites,
    function: Word,
}

/// Reads a module, whose sections come in an order that has everything declared before functions use it.
#[derive(Default)]
pub(super) struct Parser {
    beyond: bool,
    entry_points: Vec<EntryPoint>,
    /// Imported sets of instructions without effect.
    debug_sets: HashSet<Word>,
    decorations: HashMap<Word, Decorations>,
    types: HashMap<Word, Type>,
    /// Values that are pointers to physical storage.
    physical: HashSet<Word>,
    roots: Vec<Root>,
    /// The root that a value leads to.
    leads_to: HashMap<Word, usize>,
    /// The roots that parameters are.
    parameters: HashMap<(Word, usize), usize>,
    /// What every entry point may write: roots that are hidden in initial values.
    hidden: FunctionWrites,
    functions: HashMap<Word, FunctionWrites>,
    function: Option<(Word, FunctionWrites)>,
}

/// What matters of a variable's or a structure's decorations.
#[derive(Default)]
struct Decorations {
    set: Option<u32>,
    binding: Option<u32>,
    non_writable: bool,
    block: bool,
    non_writable_members: HashSet<u32>,
}

#[derive(Clone, Copy)]
enum Type {
    /// With so many members.
    Struct(u32),
    StorageImage,
    /// An image that is sampled, a sampler, an acceleration structure.
    ReadOnly,
    Pointer {
        class: StorageClass,
        /// What it points to, arrays left out.
        pointee: Option<Word>,
    },
    Array {
        /// Of what, arrays left out.
        element: Word,
    },
}

/// A variable that can be written, or a parameter that may be one.
#[derive(Clone, Copy)]
struct Root {
    origin: Origin,
    is_image: bool,
}

#[derive(Clone, Copy)]
enum Origin {
    /// Set and binding.
    Descriptor(u32, u32),
    /// What was handed to the function.
    Parameter,
    /// Nobody knows.
    Unknown,
}

/// What a function may write by itself.
#[derive(Default)]
struct FunctionWrites {
    roots: BTreeSet<usize>,
    callees: BTreeSet<Word>,
    /// Roots handed to functions: as which parameter of which.
    handed: BTreeSet<(usize, Word, usize)>,
    parameters: usize,
    addresses: bool,
    anything: bool,
}

impl Parser {
    /// The entry points of a module.
    pub(super) fn parse(words: &[u32]) -> Result<Vec<EntryPoint>, ParseState> {
        if !is_sound(words) {
            return Err(ParseState::HeaderIncorrect);
        }
        let mut parser = Self::default();
        parse_words(words, &mut parser)?;
        Ok(parser.finish())
    }

    fn finish(mut self) -> Vec<EntryPoint> {
        let mut entry_points = std::mem::take(&mut self.entry_points);
        for entry in &mut entry_points {
            entry.writes = self.reached_from(entry.function);
        }
        entry_points
    }

    /// What a function and all that it calls may write.
    fn reached_from(&self, function: Word) -> ShaderWrites {
        let mut writes = ShaderWrites { anything: self.beyond, ..ShaderWrites::default() };
        let mut reached = vec![&self.hidden];
        let (mut seen, mut next) = (HashSet::from([function]), vec![function]);
        while let Some(function) = next.pop() {
            let Some(function) = self.functions.get(&function) else {
                writes.anything = true;
                continue;
            };
            reached.push(function);
            next.extend(function.callees.iter().copied().filter(|callee| seen.insert(*callee)));
        }
        for function in &reached {
            writes.addresses |= function.addresses;
            writes.anything |= function.anything;
        }
        for root in self.written_by(&reached) {
            match self.roots[root].origin {
                Origin::Descriptor(set, binding) => _ = writes.bindings.insert((set, binding)),
                Origin::Parameter => {}
                Origin::Unknown => writes.anything = true,
            }
        }
        writes
    }

    /// The roots that functions write, themselves or by handing them to one that does.
    fn written_by(&self, functions: &[&FunctionWrites]) -> BTreeSet<usize> {
        let mut written: BTreeSet<_> =
            functions.iter().flat_map(|function| &function.roots).copied().collect();
        loop {
            let handed = functions.iter().flat_map(|function| &function.handed);
            let more: Vec<_> = handed
                .filter(|(root, callee, index)| {
                    let parameter = self.parameters.get(&(*callee, *index));
                    !written.contains(root) && parameter.is_none_or(|parameter| written.contains(parameter))
                })
                .map(|(root, ..)| *root)
                .collect();
            if more.is_empty() {
                return written;
            }
            written.extend(more);
        }
    }

    fn decorate(&mut self, operands: &[Operand]) {
        let [Operand::IdRef(target), Operand::Decoration(decoration), rest @ ..] = operands else { return };
        let decorations = self.decorations.entry(*target).or_default();
        match (decoration, rest) {
            (Decoration::DescriptorSet, [Operand::LiteralBit32(set)]) => decorations.set = Some(*set),
            (Decoration::Binding, [Operand::LiteralBit32(binding)]) => decorations.binding = Some(*binding),
            (Decoration::NonWritable, _) => decorations.non_writable = true,
            (Decoration::Block, _) => decorations.block = true,
            _ => {}
        }
    }

    fn decorate_member(&mut self, operands: &[Operand]) {
        if let [
            Operand::IdRef(target),
            Operand::LiteralBit32(member),
            Operand::Decoration(Decoration::NonWritable),
            ..,
        ] = operands
        {
            self.decorations.entry(*target).or_default().non_writable_members.insert(*member);
        }
    }

    fn declare_type(&mut self, instruction: &Instruction) {
        let (Some(id), operands) = (instruction.result_id, &*instruction.operands) else { return };
        let without_arrays = |id: &Word| match self.types.get(id) {
            Some(Type::Array { element }) => *element,
            _ => *id,
        };
        let described = match (instruction.class.opcode, operands) {
            (Op::TypeStruct, members) => u32::try_from(members.len()).ok().map(Type::Struct),
            (Op::TypeImage, [_, Operand::Dim(dim), _, _, _, Operand::LiteralBit32(sampled), ..]) => {
                let is_attachment = matches!(dim, Dim::DimSubpassData | Dim::DimTileImageDataEXT);
                Some(if *sampled == 1 || is_attachment { Type::ReadOnly } else { Type::StorageImage })
            }
            (Op::TypeSampler | Op::TypeSampledImage | Op::TypeAccelerationStructureKHR, _) => {
                Some(Type::ReadOnly)
            }
            (Op::TypeArray | Op::TypeRuntimeArray, [Operand::IdRef(element), ..]) => {
                Some(Type::Array { element: without_arrays(element) })
            }
            (Op::TypePointer, [Operand::StorageClass(class), Operand::IdRef(pointee)]) => {
                Some(Type::Pointer { class: *class, pointee: Some(without_arrays(pointee)) })
            }
            (Op::TypeUntypedPointerKHR, [Operand::StorageClass(class)]) => {
                Some(Type::Pointer { class: *class, pointee: None })
            }
            _ => None,
        };
        if let Some(described) = described {
            self.types.insert(id, described);
        }
    }

    /// A variable outside functions.
    fn declare_variable(&mut self, instruction: &Instruction) {
        let (Some(id), [Operand::StorageClass(class), rest @ ..]) =
            (instruction.result_id, &*instruction.operands)
        else {
            return;
        };
        let pointee = match (instruction.class.opcode, rest) {
            // Its data type, where it has one.
            (Op::UntypedVariableKHR, [Operand::IdRef(data), ..]) => match self.types.get(data) {
                Some(Type::Array { element }) => Some(*element),
                _ => Some(*data),
            },
            _ => match instruction.result_type.and_then(|id| self.types.get(&id)) {
                Some(Type::Pointer { pointee, .. }) => *pointee,
                _ => None,
            },
        };
        if let Some(root) = self.root(id, *class, pointee) {
            self.leads_to.insert(id, self.roots.len());
            self.roots.push(root);
        }
    }

    /// A parameter of the function that is being declared.
    fn declare_parameter(&mut self, instruction: &Instruction) {
        let (Some(id), Some((function, writes))) = (instruction.result_id, &mut self.function) else {
            return;
        };
        let index = writes.parameters;
        writes.parameters += 1;
        let is_image = match instruction.result_type.and_then(|id| self.types.get(&id)) {
            Some(Type::StorageImage) => true,
            Some(Type::Pointer { class, .. }) => match Storage::of(*class) {
                Storage::Buffers | Storage::Uniforms => false,
                Storage::Images => true,
                // Whoever hands a root to such a parameter, writes it.
                Storage::Private | Storage::Unknown => return,
            },
            _ => return,
        };
        self.parameters.insert((*function, index), self.roots.len());
        self.leads_to.insert(id, self.roots.len());
        self.roots.push(Root { origin: Origin::Parameter, is_image });
    }

    /// The root that a variable is, if it can be written.
    fn root(&self, variable: Word, class: StorageClass, pointee: Option<Word>) -> Option<Root> {
        let unknown = Some(Root { origin: Origin::Unknown, is_image: true });
        let default = Decorations::default();
        let decorations = self.decorations.get(&variable).unwrap_or(&default);
        let origin = match decorations.set.zip(decorations.binding) {
            Some((set, binding)) => Origin::Descriptor(set, binding),
            None => Origin::Unknown,
        };
        let pointee_type = pointee.and_then(|id| self.types.get(&id));
        let pointee_decorations = pointee.and_then(|id| self.decorations.get(&id)).unwrap_or(&default);
        let read_only = decorations.non_writable;
        match (Storage::of(class), pointee_type) {
            (Storage::Private, _) => None,
            (Storage::Uniforms, _) if pointee_decorations.block => None,
            (Storage::Buffers | Storage::Uniforms, Some(Type::Struct(members))) => {
                let read_only = read_only
                    || *members > 0
                        && (0..*members)
                            .all(|member| pointee_decorations.non_writable_members.contains(&member));
                (!read_only).then_some(Root { origin, is_image: false })
            }
            (Storage::Buffers, None) => (!read_only).then_some(Root { origin, is_image: false }),
            (Storage::Images, Some(Type::ReadOnly)) => None,
            (Storage::Images, Some(Type::StorageImage)) => {
                (!read_only).then_some(Root { origin, is_image: true })
            }
            _ => unknown,
        }
    }

    /// Follows roots and physical pointers through an instruction.
    fn follow(&mut self, instruction: &Instruction) {
        let op = instruction.class.opcode;
        let writes = match &mut self.function {
            Some((_, writes)) => writes,
            None => &mut self.hidden,
        };
        writes.anything |= is_opaque(op);
        let is_debug = op == Op::ExtInst
            && matches!(instruction.operands.first(), Some(Operand::IdRef(set)) if self.debug_sets.contains(set));
        if let (Op::FunctionCall, Some(Operand::IdRef(callee))) = (op, instruction.operands.first()) {
            writes.callees.insert(*callee);
        }
        let mut passed = None;
        for (index, operand) in instruction.operands.iter().enumerate().filter(|_| !is_debug) {
            let Some(id) = operand.id_ref_any() else { continue };
            if let Some(root) = self.leads_to.get(&id).copied() {
                match of_operand(op, index) {
                    Use::Hands => {
                        let callee = instruction.operands[0].id_ref_any().unwrap_or_default();
                        writes.handed.insert((root, callee, index - 1));
                    }
                    Use::Loads if !self.roots[root].is_image => {}
                    Use::Reads => {}
                    Use::Passes | Use::Loads if passed.is_none_or(|passed| passed == root) => {
                        passed = Some(root);
                    }
                    Use::Passes | Use::Loads | Use::Writes => _ = writes.roots.insert(root),
                }
            }
            writes.addresses |= self.physical.contains(&id) && writes_physical(op, index);
        }
        let Some(id) = instruction.result_id else { return };
        if let Some(root) = passed {
            self.leads_to.insert(id, root);
        }
        if let Some(Type::Pointer { class: StorageClass::PhysicalStorageBuffer, .. }) =
            instruction.result_type.and_then(|result_type| self.types.get(&result_type))
        {
            self.physical.insert(id);
        }
    }
}

impl Consumer for Parser {
    fn initialize(&mut self) -> ParseAction {
        ParseAction::Continue
    }

    fn finalize(&mut self) -> ParseAction {
        ParseAction::Continue
    }

    fn consume_header(&mut self, _: ModuleHeader) -> ParseAction {
        ParseAction::Continue
    }

    fn consume_instruction(&mut self, instruction: Instruction) -> ParseAction {
        let operands = &*instruction.operands;
        match (instruction.class.opcode, operands) {
            (Op::Capability, [Operand::Capability(capability)]) => self.beyond |= is_beyond(*capability),
            (Op::ExtInstImport, [Operand::LiteralString(name)])
                if name.starts_with("NonSemantic.") || name.contains("DebugInfo") =>
            {
                self.debug_sets.extend(instruction.result_id);
            }
            (
                Op::EntryPoint,
                [Operand::ExecutionModel(model), Operand::IdRef(function), Operand::LiteralString(name), ..],
            ) => self.entry_points.push(EntryPoint {
                model: *model,
                name: name.clone(),
                writes: ShaderWrites::default(),
                function: *function,
            }),
            (Op::Decorate, operands) => self.decorate(operands),
            (Op::MemberDecorate, operands) => self.decorate_member(operands),
            // Deprecated, and nobody uses them.
            (Op::GroupDecorate | Op::GroupMemberDecorate, _) => self.beyond = true,
            (Op::Name | Op::MemberName | Op::Source | Op::ExecutionMode | Op::ExecutionModeId, _) => {}
            (op, _) if op.is_type() => self.declare_type(&instruction),
            (Op::Function, _) => {
                self.function = instruction.result_id.map(|id| (id, FunctionWrites::default()));
            }
            (Op::FunctionParameter, _) => {
                self.declare_parameter(&instruction);
                self.follow(&instruction);
            }
            (Op::FunctionEnd, _) => self.functions.extend(self.function.take()),
            (op, _) => {
                if self.function.is_none() && matches!(op, Op::Variable | Op::UntypedVariableKHR) {
                    self.declare_variable(&instruction);
                }
                self.follow(&instruction);
            }
        }
        ParseAction::Continue
    }
}

/// Whether code is one that the library takes without panicking: its instructions fill it, and no constant is
/// made by an instruction that makes constants.
fn is_sound(words: &[u32]) -> bool {
    const HEADER: usize = 5;
    let Some(mut rest) = words.get(HEADER..) else { return false };
    while let Some(first) = rest.first() {
        let len = (first >> 16) as usize;
        let Some(instruction) = rest.get(..len.max(1)).filter(|_| len > 0) else { return false };
        let is = |word: u32, op: Op| word & 0xffff == op as u32;
        if is(*first, Op::SpecConstantOp)
            && let Some(made_by) = instruction.get(3)
            && [Op::Constant, Op::SpecConstant, Op::SpecConstantOp, Op::Switch]
                .iter()
                .any(|op| is(*made_by, *op))
        {
            return false;
        }
        rest = &rest[len..];
    }
    true
}
