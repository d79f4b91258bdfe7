//! Computes the size of types when every use of another type is written out.

use std::collections::HashMap;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentCoreModuleTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType,
    ComponentFuncTypeId, ComponentInstanceTypeId, ComponentTypeId, ComponentValType,
};
use wasmparser::types::TypesRef;

use super::bound::{TYPE_LABELS, TYPE_LEVELS, TYPE_PARTS};
use crate::error::ComponentError;

/// The expanded size of one type of a value.
#[derive(Clone, Copy)]
struct Size {
    /// Itself and all that it holds.
    parts: u64,
    /// The nesting of types, including this one.
    levels: u64,
    /// Bytes of names.
    labels: u64,
    /// The cost of comparing it: parts, and the length of names.
    weight: u64,
}

impl Size {
    const ONE: Self = Self {
        parts: 1,
        levels: 1,
        labels: 0,
        weight: 1,
    };

    fn check(self) -> Result<(), ComponentError> {
        TYPE_LEVELS.check(self.levels)?;
        TYPE_PARTS.check(self.parts)?;
        TYPE_LABELS.check(self.labels)
    }

    /// Returns the size with something added inside, which may have a name.
    fn with(self, name: &str, inside: Self) -> Self {
        Self {
            parts: self.parts.saturating_add(inside.parts),
            levels: self.levels.max(inside.levels.saturating_add(1)),
            labels: self
                .labels
                .saturating_add(inside.labels)
                .saturating_add(name.len() as u64),
            weight: self.weight.saturating_add(inside.weight).saturating_add(units(name)),
        }
    }
}

/// Returns the cost of comparing a name, in parts of types.
pub(super) fn units(name: &str) -> u64 {
    name.len() as u64 / 16
}

/// The sizes of types of values and the weights of all others, each computed once.
#[derive(Default)]
pub(super) struct Sizes {
    defined: HashMap<ComponentDefinedTypeId, Size>,
    funcs: HashMap<ComponentFuncTypeId, u64>,
    modules: HashMap<ComponentCoreModuleTypeId, u64>,
    instances: HashMap<ComponentInstanceTypeId, u64>,
    components: HashMap<ComponentTypeId, u64>,
}

impl Sizes {
    /// Checks all types and functions of one component.
    pub(super) fn all(&mut self, types: &TypesRef<'_>) -> Result<(), ComponentError> {
        for index in 0..types.component_type_count() {
            self.any(types, types.component_any_type_at(index))?;
        }
        for index in 0..types.component_instance_count() {
            self.instance(types, types.component_instance_at(index))?;
        }
        Ok(())
    }

    /// Checks a type and returns its weight.
    pub(super) fn any(&mut self, types: &TypesRef<'_>, id: ComponentAnyTypeId) -> Result<u64, ComponentError> {
        match id {
            ComponentAnyTypeId::Defined(id) => {
                let size = self.defined(types, id);
                size.check()?;
                Ok(size.weight)
            }
            ComponentAnyTypeId::Func(id) => self.func(types, id),
            ComponentAnyTypeId::Instance(id) => self.instance(types, id),
            ComponentAnyTypeId::Component(id) => self.component(types, id),
            ComponentAnyTypeId::Resource(_) => Ok(1),
        }
    }

    /// Checks the types of an import, export or argument and returns their weight.
    pub(super) fn entity(&mut self, types: &TypesRef<'_>, entity: &ComponentEntityType) -> Result<u64, ComponentError> {
        match *entity {
            ComponentEntityType::Func(id) => self.func(types, id),
            ComponentEntityType::Value(ty) => {
                let size = self.value(types, ty);
                size.check()?;
                Ok(size.weight)
            }
            ComponentEntityType::Type { created, .. } => self.any(types, created),
            ComponentEntityType::Instance(id) => self.instance(types, id),
            ComponentEntityType::Component(id) => self.component(types, id),
            ComponentEntityType::Module(id) => Ok(self.module(types, id)),
        }
    }

    fn func(&mut self, types: &TypesRef<'_>, id: ComponentFuncTypeId) -> Result<u64, ComponentError> {
        if let Some(known) = self.funcs.get(&id) {
            return Ok(*known);
        }
        let Some(func) = types.get(id) else { return Ok(1) };
        let params = func.params.iter().map(|(name, ty)| (name.as_str(), *ty));
        let mut all = Size { parts: 0, ..Size::ONE };
        for (name, ty) in params.chain(func.result.map(|ty| ("", ty))) {
            let size = self.value(types, ty);
            size.check()?;
            all = Size {
                levels: 1,
                ..all.with(name, size)
            };
        }
        all.check()?;
        self.funcs.insert(id, all.weight);
        Ok(all.weight)
    }

    fn module(&mut self, types: &TypesRef<'_>, id: ComponentCoreModuleTypeId) -> u64 {
        if let Some(known) = self.modules.get(&id) {
            return *known;
        }
        let Some(module) = types.get(id) else { return 1 };
        let imports = module.imports.keys().map(|(from, name)| 1 + units(from) + units(name));
        let exports = module.exports.keys().map(|name| 1 + units(name));
        let weight = imports.chain(exports).fold(1, u64::saturating_add);
        self.modules.insert(id, weight);
        weight
    }

    fn instance(&mut self, types: &TypesRef<'_>, id: ComponentInstanceTypeId) -> Result<u64, ComponentError> {
        if let Some(known) = self.instances.get(&id) {
            return Ok(*known);
        }
        let Some(instance) = types.get(id) else { return Ok(1) };
        let exports = instance.exports.iter().map(|(name, item)| (name, &item.ty));
        let weight = self.items(types, exports)?;
        self.instances.insert(id, weight);
        Ok(weight)
    }

    fn component(&mut self, types: &TypesRef<'_>, id: ComponentTypeId) -> Result<u64, ComponentError> {
        if let Some(known) = self.components.get(&id) {
            return Ok(*known);
        }
        let Some(component) = types.get(id) else { return Ok(1) };
        let items = component.imports.iter().chain(&component.exports);
        let weight = self.items(types, items.map(|(name, item)| (name, &item.ty)))?;
        self.components.insert(id, weight);
        Ok(weight)
    }

    fn items<'t>(
        &mut self,
        types: &TypesRef<'_>,
        mut items: impl Iterator<Item = (&'t String, &'t ComponentEntityType)>,
    ) -> Result<u64, ComponentError> {
        items.try_fold(1_u64, |sum, (name, ty)| {
            let weight = self.entity(types, ty)?;
            Ok(sum.saturating_add(weight).saturating_add(units(name) + 1))
        })
    }

    fn value(&mut self, types: &TypesRef<'_>, ty: ComponentValType) -> Size {
        match ty {
            ComponentValType::Primitive(_) => Size::ONE,
            ComponentValType::Type(id) => self.defined(types, id),
        }
    }

    /// Returns the size of a type. The parser has bounded the nesting of types, which bounds this recursion.
    fn defined(&mut self, types: &TypesRef<'_>, id: ComponentDefinedTypeId) -> Size {
        if let Some(known) = self.defined.get(&id) {
            return *known;
        }
        // The type itself and its contents; a case without a type also counts as a part.
        let mut sum = |parts: &mut dyn Iterator<Item = (&str, Option<ComponentValType>)>| {
            parts.fold(Size::ONE, |sum, (name, ty)| {
                sum.with(name, ty.map_or(Size::ONE, |ty| self.value(types, ty)))
            })
        };
        let size = match types.get(id) {
            None => Size::ONE,
            Some(ComponentDefinedType::Record(record)) => {
                sum(&mut record.fields.iter().map(|(name, ty)| (name.as_str(), Some(*ty))))
            }
            Some(ComponentDefinedType::Variant(variant)) => {
                sum(&mut variant.cases.iter().map(|(name, case)| (name.as_str(), case.ty)))
            }
            Some(ComponentDefinedType::Tuple(tuple)) => sum(&mut tuple.types.iter().map(|ty| ("", Some(*ty)))),
            Some(ComponentDefinedType::Flags(names) | ComponentDefinedType::Enum(names)) => {
                let size = names.iter().fold(Size::ONE, |sum, name| sum.with(name, Size::ONE));
                Size { levels: 1, ..size }
            }
            Some(
                ComponentDefinedType::List { element: ty, .. }
                | ComponentDefinedType::FixedLengthList { element: ty, .. }
                | ComponentDefinedType::Option { ty, .. },
            ) => sum(&mut [("", Some(*ty))].into_iter()),
            Some(ComponentDefinedType::Map { key, value, .. }) => {
                sum(&mut [("", Some(*key)), ("", Some(*value))].into_iter())
            }
            Some(ComponentDefinedType::Result { ok, err, .. }) => sum(&mut [("", *ok), ("", *err)].into_iter()),
            Some(ComponentDefinedType::Future { ty, .. } | ComponentDefinedType::Stream { ty, .. }) => {
                sum(&mut [("", *ty)].into_iter())
            }
            Some(
                ComponentDefinedType::Primitive(_) | ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_),
            ) => Size::ONE,
        };
        self.defined.insert(id, size);
        size
    }
}
