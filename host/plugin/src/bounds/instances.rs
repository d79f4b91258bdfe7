//! Counts the parts that instantiating a component creates, over all copies of nested components, and what the engine
//! holds for them.
//!
//! The bytes are an upper estimate of what the engine allocates for an instance. Memories and tables are left out,
//! because they are counted when they grow.

use wasmparser::{Data, DataKind, Element, ElementItems, ElementKind, Import, TypeRef};

use super::bound::{
    COMPONENT_INSTANCES, CORE_INSTANCES, DEFINITIONS, INSTANCE_BYTES, INSTANCE_DATA, INSTANCE_ELEMENTS, LINKED_EXPORTS,
    LINKED_IMPORTS,
};
use crate::error::ComponentError;

/// Bytes for one instance of a component.
pub(super) const COMPONENT_INSTANCE_BYTES: u64 = 256;
/// Bytes for one adapter: its trampoline, its lowering, and the items that its options name.
pub(super) const CANON_BYTES: u64 = 112;
/// Bytes for one core instance, whatever it contains.
const CORE_INSTANCE_BYTES: u64 = 1_024;
/// Bytes for an import, and for a function that may be referenced.
const POINTERS: u64 = 48;
/// Bytes for a global, and for an entry of a passive segment.
const VALUE: u64 = 16;
/// Bytes for a memory or a table, without its contents.
const AREA: u64 = 256;
/// Bytes for a segment.
const SEGMENT: u64 = 32;

/// The parts of one core module that count again for each of its instances.
#[derive(Clone, Copy, Default)]
pub(super) struct Module {
    imports: u64,
    imported_functions: u64,
    pub(super) exports: u64,
    pub(super) functions: u64,
    pub(super) globals: u64,
    /// Tables and memories.
    pub(super) areas: u64,
    segments: u64,
    /// Entries of all element segments.
    entries: u64,
    /// Entries of the passive element segments.
    passive: u64,
    /// Bytes of the active data segments.
    data_bytes: u64,
}

impl Module {
    pub(super) fn import(&mut self, import: &Import<'_>) {
        self.imports += 1;
        if let TypeRef::Func(_) | TypeRef::FuncExact(_) = import.ty {
            self.imported_functions += 1;
        }
    }

    pub(super) fn data(&mut self, data: &Data<'_>) {
        self.segments += 1;
        if let DataKind::Active { .. } = data.kind {
            self.data_bytes = self.data_bytes.saturating_add(data.data.len() as u64);
        }
    }

    /// Counts a segment and returns the number of its entries.
    pub(super) fn elements(&mut self, element: &Element<'_>) -> u64 {
        let entries = u64::from(match &element.items {
            ElementItems::Functions(functions) => functions.count(),
            ElementItems::Expressions(_, expressions) => expressions.count(),
        });
        self.segments += 1;
        self.entries = self.entries.saturating_add(entries);
        if let ElementKind::Passive = element.kind {
            self.passive = self.passive.saturating_add(entries);
        }
        entries
    }

    /// Returns the bytes that the engine holds for one instance.
    fn state_bytes(&self) -> u64 {
        // A function can be referenced only if an export, an element segment or a global names it, or if it is the
        // start function of the module.
        let named = self.exports.saturating_add(self.entries).saturating_add(self.globals) + 1;
        let functions = self.functions.saturating_add(self.imported_functions).min(named);
        [
            (self.imports, POINTERS),
            (functions, POINTERS),
            (self.globals, VALUE),
            (self.passive, VALUE),
            (self.areas, AREA),
            (self.segments, SEGMENT),
        ]
        .iter()
        .fold(CORE_INSTANCE_BYTES, |sum, (count, bytes)| {
            sum.saturating_add(count.saturating_mul(*bytes))
        })
    }
}

/// The parts of one instance of a component, including those of all instances in it.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) core_instances: u64,
    pub(super) component_instances: u64,
    pub(super) definitions: u64,
    linked_imports: u64,
    linked_exports: u64,
    elements: u64,
    data_bytes: u64,
    pub(super) state_bytes: u64,
}

impl Totals {
    /// Adds an instance of a core module.
    pub(super) fn instantiate(&mut self, module: &Module) {
        self.add(&Self {
            core_instances: 1,
            component_instances: 0,
            definitions: 0,
            linked_imports: module.imports,
            linked_exports: module.exports,
            elements: module.entries,
            data_bytes: module.data_bytes,
            state_bytes: module.state_bytes(),
        });
    }

    pub(super) fn hold(&mut self, bytes: u64) {
        self.state_bytes = self.state_bytes.saturating_add(bytes);
    }

    pub(super) fn add(&mut self, other: &Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.core_instances, other.core_instances);
        add(&mut self.component_instances, other.component_instances);
        add(&mut self.definitions, other.definitions);
        add(&mut self.linked_imports, other.linked_imports);
        add(&mut self.linked_exports, other.linked_exports);
        add(&mut self.elements, other.elements);
        add(&mut self.data_bytes, other.data_bytes);
        add(&mut self.state_bytes, other.state_bytes);
    }

    /// Checks the cost of linking core instances when a component is validated.
    pub(super) fn check_links(&self) -> Result<(), ComponentError> {
        LINKED_IMPORTS.check(self.linked_imports)?;
        LINKED_EXPORTS.check(self.linked_exports)
    }

    pub(super) fn check(&self) -> Result<(), ComponentError> {
        CORE_INSTANCES.check(self.core_instances)?;
        COMPONENT_INSTANCES.check(self.component_instances)?;
        DEFINITIONS.check(self.definitions)?;
        self.check_links()?;
        INSTANCE_ELEMENTS.check(self.elements)?;
        INSTANCE_DATA.check(self.data_bytes)?;
        INSTANCE_BYTES.check(self.state_bytes)
    }
}
