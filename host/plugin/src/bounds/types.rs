//! What types expand to when every use of another type is written out.

use std::collections::HashMap;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType, ComponentFuncTypeId,
    ComponentInstanceTypeId, ComponentTypeId, ComponentValType,
};
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use super::{Error, TYPE_LEVELS, TYPE_PARTS};
use crate::bytes::broken;

/// Checks all types of the component `bytes` and of the components in it. The bodies of functions are not looked at.
pub(super) fn expanded(bytes: &[u8]) -> Result<(), Error> {
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut sizes = Sizes::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| broken(&error))?;
        // Before the validator leaves a component: its types are reached by their indices.
        if let (Payload::End(_), Some(types)) = (&payload, validator.types(0)) {
            sizes.all(&types)?;
        }
        if let Err(error) = validator.payload(&payload) {
            // The parser counts the parts of a type, too, up to a million.
            if error.message().contains("effective type size") {
                TYPE_PARTS.check(u64::MAX)?;
            }
            return Err(broken(&error));
        }
    }
    Ok(())
}

/// What one type expands to.
#[derive(Clone, Copy)]
struct Size {
    /// Itself and all that it holds.
    parts: u64,
    /// Types inside each other, itself included.
    levels: u64,
}

impl Size {
    const ONE: Self = Self { parts: 1, levels: 1 };

    fn check(self) -> Result<(), Error> {
        TYPE_LEVELS.check(self.levels)?;
        TYPE_PARTS.check(self.parts)
    }
}

/// The sizes of types, each computed once.
#[derive(Default)]
struct Sizes {
    defined: HashMap<ComponentDefinedTypeId, Size>,
    instances: HashMap<ComponentInstanceTypeId, ()>,
    components: HashMap<ComponentTypeId, ()>,
}

impl Sizes {
    /// Checks all types and functions of one component.
    fn all(&mut self, types: &TypesRef<'_>) -> Result<(), Error> {
        for index in 0..types.component_type_count() {
            self.any(types, types.component_any_type_at(index))?;
        }
        for index in 0..types.component_instance_count() {
            self.instance(types, types.component_instance_at(index))?;
        }
        Ok(())
    }

    fn any(&mut self, types: &TypesRef<'_>, id: ComponentAnyTypeId) -> Result<(), Error> {
        match id {
            ComponentAnyTypeId::Defined(id) => self.defined(types, id).check(),
            ComponentAnyTypeId::Func(id) => self.func(types, id),
            ComponentAnyTypeId::Instance(id) => self.instance(types, id),
            ComponentAnyTypeId::Component(id) => self.component(types, id),
            ComponentAnyTypeId::Resource(_) => Ok(()),
        }
    }

    fn entity(&mut self, types: &TypesRef<'_>, entity: &ComponentEntityType) -> Result<(), Error> {
        match *entity {
            ComponentEntityType::Func(id) => self.func(types, id),
            ComponentEntityType::Value(ty) => self.value(types, ty).check(),
            ComponentEntityType::Type { created, .. } => self.any(types, created),
            ComponentEntityType::Instance(id) => self.instance(types, id),
            ComponentEntityType::Component(id) => self.component(types, id),
            ComponentEntityType::Module(_) => Ok(()),
        }
    }

    fn func(&mut self, types: &TypesRef<'_>, id: ComponentFuncTypeId) -> Result<(), Error> {
        let Some(func) = types.get(id) else { return Ok(()) };
        let params = func.params.iter().map(|(_, ty)| *ty);
        let mut parts = 0_u64;
        for ty in params.chain(func.result) {
            let size = self.value(types, ty);
            size.check()?;
            parts = parts.saturating_add(size.parts);
        }
        TYPE_PARTS.check(parts)
    }

    fn instance(&mut self, types: &TypesRef<'_>, id: ComponentInstanceTypeId) -> Result<(), Error> {
        if self.instances.insert(id, ()).is_some() {
            return Ok(());
        }
        let Some(instance) = types.get(id) else { return Ok(()) };
        instance
            .exports
            .values()
            .try_for_each(|item| self.entity(types, &item.ty))
    }

    fn component(&mut self, types: &TypesRef<'_>, id: ComponentTypeId) -> Result<(), Error> {
        if self.components.insert(id, ()).is_some() {
            return Ok(());
        }
        let Some(component) = types.get(id) else { return Ok(()) };
        let mut items = component.imports.values().chain(component.exports.values());
        items.try_for_each(|item| self.entity(types, &item.ty))
    }

    fn value(&mut self, types: &TypesRef<'_>, ty: ComponentValType) -> Size {
        match ty {
            ComponentValType::Primitive(_) => Size::ONE,
            ComponentValType::Type(id) => self.defined(types, id),
        }
    }

    /// The parser has bounded how deep types nest, which bounds the recursion.
    fn defined(&mut self, types: &TypesRef<'_>, id: ComponentDefinedTypeId) -> Size {
        if let Some(known) = self.defined.get(&id) {
            return *known;
        }
        // Itself, and what it holds; a case without a type is a part, too.
        let mut sum = |tys: &mut dyn Iterator<Item = Option<ComponentValType>>| {
            tys.fold(Size::ONE, |sum, ty| {
                let inside = ty.map_or(Size::ONE, |ty| self.value(types, ty));
                Size {
                    parts: sum.parts.saturating_add(inside.parts),
                    levels: sum.levels.max(inside.levels.saturating_add(1)),
                }
            })
        };
        let size = match types.get(id) {
            None => Size::ONE,
            Some(ComponentDefinedType::Record(record)) => sum(&mut record.fields.values().map(|ty| Some(*ty))),
            Some(ComponentDefinedType::Variant(variant)) => sum(&mut variant.cases.values().map(|case| case.ty)),
            Some(ComponentDefinedType::Tuple(tuple)) => sum(&mut tuple.types.iter().map(|ty| Some(*ty))),
            Some(ComponentDefinedType::Flags(names) | ComponentDefinedType::Enum(names)) => Size {
                parts: 1 + names.len() as u64,
                levels: 1,
            },
            Some(
                ComponentDefinedType::List { element: ty, .. }
                | ComponentDefinedType::FixedLengthList { element: ty, .. }
                | ComponentDefinedType::Option { ty, .. },
            ) => sum(&mut [Some(*ty)].into_iter()),
            Some(ComponentDefinedType::Map { key, value, .. }) => sum(&mut [Some(*key), Some(*value)].into_iter()),
            Some(ComponentDefinedType::Result { ok, err, .. }) => sum(&mut [*ok, *err].into_iter()),
            Some(ComponentDefinedType::Future { ty, .. } | ComponentDefinedType::Stream { ty, .. }) => {
                sum(&mut [*ty].into_iter())
            }
            Some(
                ComponentDefinedType::Primitive(_) | ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_),
            ) => Size::ONE,
        };
        self.defined.insert(id, size);
        size
    }
}
