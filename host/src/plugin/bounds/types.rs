//! What types expand to when every use of another type is written out.

use std::collections::HashMap;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType, ComponentFuncTypeId,
    ComponentInstanceTypeId, ComponentTypeId, ComponentValType,
};
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use super::{Error, TYPE_PARTS};
use crate::plugin::bytes::broken;

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

/// The sizes of types, each computed once.
#[derive(Default)]
struct Sizes {
    defined: HashMap<ComponentDefinedTypeId, u64>,
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
            ComponentAnyTypeId::Defined(id) => TYPE_PARTS.check(self.defined(types, id)),
            ComponentAnyTypeId::Func(id) => self.func(types, id),
            ComponentAnyTypeId::Instance(id) => self.instance(types, id),
            ComponentAnyTypeId::Component(id) => self.component(types, id),
            ComponentAnyTypeId::Resource(_) => Ok(()),
        }
    }

    fn entity(&mut self, types: &TypesRef<'_>, entity: &ComponentEntityType) -> Result<(), Error> {
        match *entity {
            ComponentEntityType::Func(id) => self.func(types, id),
            ComponentEntityType::Value(ty) => TYPE_PARTS.check(self.value(types, ty)),
            ComponentEntityType::Type { created, .. } => self.any(types, created),
            ComponentEntityType::Instance(id) => self.instance(types, id),
            ComponentEntityType::Component(id) => self.component(types, id),
            ComponentEntityType::Module(_) => Ok(()),
        }
    }

    fn func(&mut self, types: &TypesRef<'_>, id: ComponentFuncTypeId) -> Result<(), Error> {
        let Some(func) = types.get(id) else { return Ok(()) };
        let params = func.params.iter().map(|(_, ty)| *ty);
        let parts = params
            .chain(func.result)
            .fold(0_u64, |sum, ty| sum.saturating_add(self.value(types, ty)));
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

    fn value(&mut self, types: &TypesRef<'_>, ty: ComponentValType) -> u64 {
        match ty {
            ComponentValType::Primitive(_) => 1,
            ComponentValType::Type(id) => self.defined(types, id),
        }
    }

    /// The parser has bounded how deep types nest, which bounds the recursion.
    fn defined(&mut self, types: &TypesRef<'_>, id: ComponentDefinedTypeId) -> u64 {
        if let Some(known) = self.defined.get(&id) {
            return *known;
        }
        // Itself, and what it holds; a case without a type is a part, too.
        let mut sum = |tys: &mut dyn Iterator<Item = Option<ComponentValType>>| {
            tys.fold(1_u64, |sum, ty| {
                let parts = ty.map_or(1, |ty| self.value(types, ty));
                sum.saturating_add(parts)
            })
        };
        let parts = match types.get(id) {
            None => 1,
            Some(ComponentDefinedType::Record(record)) => sum(&mut record.fields.values().map(|ty| Some(*ty))),
            Some(ComponentDefinedType::Variant(variant)) => sum(&mut variant.cases.values().map(|case| case.ty)),
            Some(ComponentDefinedType::Tuple(tuple)) => sum(&mut tuple.types.iter().map(|ty| Some(*ty))),
            Some(ComponentDefinedType::Flags(names) | ComponentDefinedType::Enum(names)) => 1 + names.len() as u64,
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
            ) => 1,
        };
        self.defined.insert(id, parts);
        parts
    }
}
