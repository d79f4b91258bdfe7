//! Counts the cost of validating a component: the parts of types that are compared and walked.
//!
//! The validator compares the type of each argument of an instance with that of the import, part by part, and walks the
//! types of all imports, exports, adapters and outer aliases. A type that is used a hundred times is walked a hundred
//! times. So the items of each section are passed to the validator one by one, and the cost of an item is counted
//! first: the weights of the types that it uses, which are computed once for each type. The weight of a type that an
//! item declares is known only after the item is validated, and is counted then; the validator limits one such type to
//! a million parts.

use wasmparser::component_types::{ComponentCoreTypeId, ComponentEntityType};
use wasmparser::types::TypesRef;
use wasmparser::{
    BinaryReader, CanonicalFunction, ComponentAlias, ComponentExport, ComponentExternalKind, ComponentImport,
    ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef, FromReader, Parser, Payload, SectionLimited,
    TypeBounds, Validator, WasmFeatures,
};

use super::bound::COMPARISONS;
use super::types::{Sizes, units};
use crate::error::ComponentError;

/// Validates the component `bytes`, except for the bodies of functions, and checks all types in it.
pub(super) fn check(bytes: &[u8]) -> Result<(), ComponentError> {
    let mut check = Check {
        bytes,
        validator: Validator::new_with_features(WasmFeatures::all()),
        sizes: Sizes::default(),
        comparisons: 0,
    };
    for payload in Parser::new(0).parse_all(bytes) {
        check.payload(&payload.map_err(ComponentError::broken)?)?;
    }
    Ok(())
}

struct Check<'a> {
    bytes: &'a [u8],
    validator: Validator,
    sizes: Sizes,
    comparisons: u64,
}

/// Computes the weight of an item before or after it is validated.
type Weigh<T> = fn(&mut Sizes, &TypesRef<'_>, &T) -> Result<u64, ComponentError>;
/// Validates a section of one item.
type One = fn(&mut Validator, BinaryReader<'_>) -> wasmparser::Result<()>;

impl<'a> Check<'a> {
    fn payload(&mut self, payload: &Payload<'a>) -> Result<(), ComponentError> {
        match payload {
            Payload::ComponentTypeSection(section) => self.items(
                section,
                |validator, one| validator.component_type_section(&SectionLimited::new(one)?),
                |_, _, _| Ok(1),
                |sizes, types, _| last_type(sizes, types),
            ),
            Payload::ComponentAliasSection(section) => self.items(
                section,
                |validator, one| validator.component_alias_section(&SectionLimited::new(one)?),
                |_, _, _| Ok(1),
                |sizes, types, alias| match alias {
                    ComponentAlias::Outer {
                        kind: ComponentOuterAliasKind::Type,
                        ..
                    } => last_type(sizes, types),
                    _ => Ok(0),
                },
            ),
            Payload::ComponentImportSection(section) => self.items(
                section,
                |validator, one| validator.component_import_section(&SectionLimited::new(one)?),
                import,
                |_, _, _| Ok(0),
            ),
            Payload::ComponentExportSection(section) => self.items(
                section,
                |validator, one| validator.component_export_section(&SectionLimited::new(one)?),
                export,
                |_, _, _| Ok(0),
            ),
            Payload::ComponentInstanceSection(section) => self.items(
                section,
                |validator, one| validator.component_instance_section(&SectionLimited::new(one)?),
                instance,
                |_, _, _| Ok(0),
            ),
            Payload::ComponentCanonicalSection(section) => self.items(
                section,
                |validator, one| validator.component_canonical_section(&SectionLimited::new(one)?),
                adapter,
                |_, _, _| Ok(0),
            ),
            payload => {
                // Before the validator leaves a component, because its types are reached by their indices.
                if let (Payload::End(_), Some(types)) = (payload, self.validator.types(0)) {
                    self.sizes.all(&types)?;
                }
                let validated = self.validator.payload(payload);
                validated.map(|_| ()).map_err(ComponentError::broken)
            }
        }
    }

    /// Validates the items of a section one by one.
    fn items<T: FromReader<'a>>(
        &mut self,
        section: &SectionLimited<'a, T>,
        validate: One,
        before: Weigh<T>,
        after: Weigh<T>,
    ) -> Result<(), ComponentError> {
        let end = section.range().end;
        let mut items = section.clone().into_iter_with_offsets().peekable();
        let mut one = Vec::new();
        while let Some(read) = items.next() {
            let (start, item) = read.map_err(ComponentError::broken)?;
            let end = match items.peek() {
                Some(Ok((next, _))) => *next,
                Some(Err(error)) => return Err(ComponentError::broken(error)),
                None => end,
            };
            self.charge(before, &item)?;
            // The item, preceded by a count of one.
            one.clear();
            one.push(1);
            one.extend_from_slice(self.bytes.get(start..end).unwrap_or_default());
            let reader = BinaryReader::new(&one, start.saturating_sub(1));
            validate(&mut self.validator, reader).map_err(ComponentError::broken)?;
            self.charge(after, &item)?;
        }
        Ok(())
    }

    fn charge<T>(&mut self, weigh: Weigh<T>, item: &T) -> Result<(), ComponentError> {
        let Some(types) = self.validator.types(0) else {
            return Ok(());
        };
        let weight = weigh(&mut self.sizes, &types, item)?;
        COMPARISONS.add(&mut self.comparisons, weight)
    }
}

/// Returns the weight of the type that was declared last.
fn last_type(sizes: &mut Sizes, types: &TypesRef<'_>) -> Result<u64, ComponentError> {
    type_at(sizes, types, types.component_type_count().wrapping_sub(1))
}

/// Returns the weight of the type with this index. An invalid index weighs nothing, and the validator refuses it.
fn type_at(sizes: &mut Sizes, types: &TypesRef<'_>, index: u32) -> Result<u64, ComponentError> {
    match index < types.component_type_count() {
        true => sizes.any(types, types.component_any_type_at(index)),
        false => Ok(0),
    }
}

/// Returns the weight of an item that is passed or exported.
fn item(
    sizes: &mut Sizes,
    types: &TypesRef<'_>,
    kind: ComponentExternalKind,
    index: u32,
) -> Result<u64, ComponentError> {
    let entity = match kind {
        ComponentExternalKind::Type => return type_at(sizes, types, index),
        ComponentExternalKind::Module if index < types.module_count() => {
            ComponentEntityType::Module(types.module_at(index))
        }
        ComponentExternalKind::Func if index < types.component_function_count() => {
            ComponentEntityType::Func(types.component_function_at(index))
        }
        ComponentExternalKind::Instance if index < types.component_instance_count() => {
            ComponentEntityType::Instance(types.component_instance_at(index))
        }
        ComponentExternalKind::Component if index < types.component_count() => {
            ComponentEntityType::Component(types.component_at(index))
        }
        _ => return Ok(0),
    };
    sizes.entity(types, &entity)
}

/// Returns the weight of the required type of an import or export.
fn type_ref(sizes: &mut Sizes, types: &TypesRef<'_>, ty: ComponentTypeRef) -> Result<u64, ComponentError> {
    match ty {
        ComponentTypeRef::Module(index) if index < types.core_type_count_in_component() => {
            match types.core_type_at_in_component(index) {
                ComponentCoreTypeId::Module(id) => sizes.entity(types, &ComponentEntityType::Module(id)),
                ComponentCoreTypeId::Sub(_) => Ok(0),
            }
        }
        ComponentTypeRef::Func(index)
        | ComponentTypeRef::Instance(index)
        | ComponentTypeRef::Component(index)
        | ComponentTypeRef::Type(TypeBounds::Eq(index)) => type_at(sizes, types, index),
        ComponentTypeRef::Module(_) | ComponentTypeRef::Type(TypeBounds::SubResource) | ComponentTypeRef::Value(_) => {
            Ok(0)
        }
    }
}

fn import(sizes: &mut Sizes, types: &TypesRef<'_>, import: &ComponentImport<'_>) -> Result<u64, ComponentError> {
    Ok(type_ref(sizes, types, import.ty)?.saturating_add(units(import.name.name)))
}

fn export(sizes: &mut Sizes, types: &TypesRef<'_>, export: &ComponentExport<'_>) -> Result<u64, ComponentError> {
    let ascribed = export.ty.map_or(Ok(0), |ty| type_ref(sizes, types, ty))?;
    let own = item(sizes, types, export.kind, export.index)?;
    Ok(own.saturating_add(ascribed).saturating_add(units(export.name.name)))
}

fn instance(sizes: &mut Sizes, types: &TypesRef<'_>, instance: &ComponentInstance<'_>) -> Result<u64, ComponentError> {
    match instance {
        ComponentInstance::Instantiate { component_index, args } => {
            // The component's imports are compared with the arguments, and its exports are rewritten in terms of them.
            let component = item(sizes, types, ComponentExternalKind::Component, *component_index)?;
            args.iter().try_fold(component, |sum, arg| {
                let weight = item(sizes, types, arg.kind, arg.index)?;
                Ok(sum.saturating_add(weight).saturating_add(units(arg.name)))
            })
        }
        ComponentInstance::FromExports(exports) => exports.iter().try_fold(1_u64, |sum, one| {
            let weight = export(sizes, types, one)?;
            Ok(sum.saturating_add(weight))
        }),
    }
}

fn adapter(sizes: &mut Sizes, types: &TypesRef<'_>, adapter: &CanonicalFunction) -> Result<u64, ComponentError> {
    match adapter {
        CanonicalFunction::Lift { type_index, .. } => type_at(sizes, types, *type_index),
        CanonicalFunction::Lower { func_index, .. } => item(sizes, types, ComponentExternalKind::Func, *func_index),
        CanonicalFunction::TaskReturn {
            result: Some(wasmparser::ComponentValType::Type(ty)),
            ..
        }
        | CanonicalFunction::StreamNew { ty }
        | CanonicalFunction::StreamRead { ty, .. }
        | CanonicalFunction::StreamWrite { ty, .. }
        | CanonicalFunction::FutureNew { ty }
        | CanonicalFunction::FutureRead { ty, .. }
        | CanonicalFunction::FutureWrite { ty, .. } => type_at(sizes, types, *ty),
        _ => Ok(1),
    }
}
