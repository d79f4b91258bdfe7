//! Counts the contents of function bodies in one pass.

use wasmparser::{BlockType, CompositeInnerType, FunctionBody, Operator, Parser, Payload, TypeRef};

use super::bound::*;
use crate::error::ComponentError;

/// Counts everything that the cost of compiling the functions of the component `bytes` grows with. Call it before they
/// are compiled.
///
/// # Errors
///
/// Returns an error of class [`Plugin`](agenthost_core::error::ErrorClass::Plugin) with the exceeded bound and the
/// count, or if the bytes cannot be parsed.
#[doc(hidden)]
pub fn code(bytes: &[u8]) -> Result<(), ComponentError> {
    let mut all = All::default();
    // Modules do not nest, so one is enough.
    let mut module = Module::default();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(ComponentError::broken)? {
            Payload::Version { .. } => module = Module::default(),
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group.map_err(ComponentError::broken)?.types() {
                        module.types.push(match &ty.composite_type.inner {
                            CompositeInnerType::Func(func) => Signature::new(func.params().len(), func.results().len()),
                            _ => Signature::default(),
                        });
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if let TypeRef::Func(ty) | TypeRef::FuncExact(ty) = import.map_err(ComponentError::broken)?.ty {
                        module.functions.push(ty);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                module.imported = module.functions.len();
                for ty in section {
                    module.functions.push(ty.map_err(ComponentError::broken)?);
                }
            }
            Payload::CodeSectionEntry(body) => {
                let function = module.functions.get(module.imported).copied();
                module.imported += 1;
                module.body(&body, function.unwrap_or(u32::MAX), &mut all)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sums over all functions.
#[derive(Default)]
struct All {
    locals: u64,
    call_values: u64,
}

/// The parameters and results of a function type.
#[derive(Clone, Copy, Default)]
struct Signature {
    params: u64,
    values: u64,
}

impl Signature {
    fn new(params: usize, results: usize) -> Self {
        Self {
            params: params as u64,
            values: (params + results) as u64,
        }
    }
}

#[derive(Default)]
struct Module {
    types: Vec<Signature>,
    /// The types of the functions, imported ones first.
    functions: Vec<u32>,
    /// The number of functions before the next body.
    imported: usize,
}

impl Module {
    fn ty(&self, index: u32) -> Signature {
        self.types.get(index as usize).copied().unwrap_or_default()
    }

    fn called(&self, function: u32) -> u64 {
        let ty = self.functions.get(function as usize);
        ty.map_or(0, |ty| self.ty(*ty).values)
    }

    fn body(&self, body: &FunctionBody<'_>, ty: u32, all: &mut All) -> Result<(), ComponentError> {
        let mut locals = self.ty(ty).params;
        for group in body.get_locals_reader().map_err(ComponentError::broken)? {
            let (count, _) = group.map_err(ComponentError::broken)?;
            locals = locals.saturating_add(u64::from(count));
        }
        ALL_LOCALS.add(&mut all.locals, locals)?;
        let (mut loops, mut blocks, mut nesting) = (0_u64, 1_u64, 0_u64);
        let (mut values, mut targets) = (0, 0);
        let mut reader = body.get_operators_reader().map_err(ComponentError::broken)?;
        while !reader.eof() {
            let block = |ty: BlockType| match ty {
                BlockType::Empty | BlockType::Type(_) => 0,
                BlockType::FuncType(ty) => self.ty(ty).values,
            };
            let passed = match reader.read().map_err(ComponentError::broken)? {
                Operator::Block { blockty } | Operator::If { blockty } => {
                    nesting += 1;
                    blocks += 1;
                    block(blockty)
                }
                Operator::Loop { blockty } => {
                    nesting += 1;
                    blocks += 2;
                    loops += 1;
                    block(blockty)
                }
                Operator::Else | Operator::BrIf { .. } => {
                    blocks += 1;
                    0
                }
                Operator::End => {
                    nesting = nesting.saturating_sub(1);
                    0
                }
                Operator::BrTable { targets: table } => {
                    BRANCH_TARGETS.add(&mut targets, u64::from(table.len()) + 1)?;
                    blocks += 1;
                    0
                }
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    self.called(function_index)
                }
                Operator::CallIndirect { type_index, .. }
                | Operator::ReturnCallIndirect { type_index, .. }
                | Operator::CallRef { type_index }
                | Operator::ReturnCallRef { type_index } => self.ty(type_index).values,
                _ => continue,
            };
            CONTROL_NESTING.check(nesting)?;
            CALL_VALUES.add(&mut values, passed)?;
        }
        LOOP_VALUES.check(locals.saturating_mul(loops))?;
        BLOCK_VALUES.check(locals.saturating_mul(blocks))?;
        ALL_CALL_VALUES.add(&mut all.call_values, values)
    }
}
