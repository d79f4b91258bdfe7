//! Counts the parts of a component in one pass.

use std::ops::Range;

use wasmparser::{
    BinaryReader, ComponentAlias, ComponentDefinedType, ComponentExternalKind, ComponentImport, ComponentInstance,
    ComponentOuterAliasKind, ComponentType, ComponentTypeRef, CoreType, Encoding, Instance, InstanceTypeDeclaration,
    Parser, Payload,
};

use super::bound::*;
use super::instances::{CANON_BYTES, COMPONENT_INSTANCE_BYTES, Module, Totals};
use super::validation;
use crate::custom_sections::WIT_SECTION;
use crate::error::ComponentError;

/// Counts the parts of the component `bytes`, and then the expanded size of its types. Returns an upper estimate of the bytes
/// that the engine holds for one instance of it, without its memories and tables.
///
/// # Errors
///
/// Returns an error of class [`Plugin`](agenthost_core::error::ErrorClass::Plugin) with the exceeded bound and the
/// count, or if the bytes cannot be parsed.
pub(crate) fn structure(bytes: &[u8]) -> Result<u64, ComponentError> {
    let totals = parts(bytes)?;
    validation::check(bytes)?;
    Ok(totals.state_bytes)
}

/// Counts the parts of the component `bytes`.
fn parts(bytes: &[u8]) -> Result<Totals, ComponentError> {
    let mut counts = Counts::default();
    let mut frames: Vec<Frame> = Vec::new();
    let mut root = Totals::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(ComponentError::broken)?;
        if let Payload::Version { encoding, .. } = payload {
            frames.push(Frame {
                is_component: encoding == Encoding::Component,
                ..Frame::default()
            });
            NESTING.check(frames.len() as u64 - 1)?;
            match encoding {
                Encoding::Component => COMPONENTS.add(&mut counts.components, u64::from(frames.len() > 1))?,
                Encoding::Module => MODULES.add(&mut counts.modules, 1)?,
            }
        } else if let Payload::End(_) = payload {
            let Some(ended) = frames.pop() else { continue };
            match frames.last_mut() {
                Some(outer) if ended.is_component => outer.components.push(Some(ended.totals)),
                Some(outer) => outer.modules.push(Some(ended.module)),
                None => root = ended.totals,
            }
        } else {
            counts.payload(bytes, &payload, &mut frames)?;
        }
    }
    root.check()?;
    Ok(root)
}

/// A component or module that is being read.
#[derive(Default)]
struct Frame {
    is_component: bool,
    /// The components that it can instantiate, by index; `None` for an imported one.
    components: Vec<Option<Totals>>,
    /// The core modules that it can instantiate, in the same way.
    modules: Vec<Option<Module>>,
    totals: Totals,
    /// The parts of the module that is being read.
    module: Module,
}

/// The parts that count once for each occurrence in the bytes.
#[derive(Default)]
struct Counts {
    components: u64,
    modules: u64,
    functions: u64,
    core_types: u64,
    core_type_parts: u64,
    core_imports: u64,
    core_exports: u64,
    globals: u64,
    tables: u64,
    elements: u64,
    element_segments: u64,
    data_segments: u64,
    custom_sections: u64,
    wit_sections: u64,
    wit_bytes: u64,
    types: u64,
    nested_types: u64,
    labels: u64,
    /// Definitions, linked imports and linked exports as written, including those of components that are never
    /// instantiated: each is validated once.
    written: Totals,
}

impl Counts {
    fn payload(&mut self, bytes: &[u8], payload: &Payload<'_>, frames: &mut [Frame]) -> Result<(), ComponentError> {
        match payload {
            Payload::CustomSection(section) => {
                CUSTOM_SECTIONS.add(&mut self.custom_sections, 1)?;
                let rest = section.name().strip_prefix(WIT_SECTION);
                if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':')) {
                    WIT_SECTIONS.add(&mut self.wit_sections, 1)?;
                    WIT_BYTES.add(&mut self.wit_bytes, section.data().len() as u64)?;
                }
            }
            Payload::TypeSection(section) => {
                for group in each(section.clone()) {
                    self.core_type(&group?)?;
                }
            }
            Payload::ImportSection(section) => {
                let module = &mut own(frames)?.module;
                for import in section.clone().into_imports() {
                    CORE_IMPORTS.add(&mut self.core_imports, 1)?;
                    module.import(&import.map_err(ComponentError::broken)?);
                }
            }
            Payload::FunctionSection(section) => {
                FUNCTIONS.add(&mut self.functions, u64::from(section.count()))?;
                own(frames)?.module.functions += u64::from(section.count());
            }
            Payload::TableSection(section) => {
                TABLES.add(&mut self.tables, u64::from(section.count()))?;
                own(frames)?.module.areas += u64::from(section.count());
                for table in each(section.clone()) {
                    TABLE_ELEMENTS.check(table?.ty.initial)?;
                }
            }
            Payload::MemorySection(section) => {
                TABLES.add(&mut self.tables, u64::from(section.count()))?;
                own(frames)?.module.areas += u64::from(section.count());
            }
            Payload::GlobalSection(section) => {
                GLOBALS.add(&mut self.globals, u64::from(section.count()))?;
                own(frames)?.module.globals += u64::from(section.count());
            }
            Payload::ExportSection(section) => {
                CORE_EXPORTS.add(&mut self.core_exports, u64::from(section.count()))?;
                own(frames)?.module.exports += u64::from(section.count());
            }
            Payload::DataSection(section) => {
                DATA_SEGMENTS.add(&mut self.data_segments, u64::from(section.count()))?;
                for data in each(section.clone()) {
                    own(frames)?.module.data(&data?);
                }
            }
            Payload::ElementSection(section) => {
                ELEMENT_SEGMENTS.add(&mut self.element_segments, u64::from(section.count()))?;
                for element in each(section.clone()) {
                    let entries = own(frames)?.module.elements(&element?);
                    ELEMENTS.add(&mut self.elements, entries)?;
                }
            }
            Payload::CodeSectionEntry(body) => BODY_BYTES.check(body.range().len() as u64)?,
            _ => self.component_payload(bytes, payload, frames)?,
        }
        Ok(())
    }

    fn component_payload(
        &mut self,
        bytes: &[u8],
        payload: &Payload<'_>,
        frames: &mut [Frame],
    ) -> Result<(), ComponentError> {
        // The frame that an outer alias refers to. Computed before the current frame is changed.
        let outer = |frames: &[Frame], count: u32| frames.len().checked_sub(1 + count as usize);
        match payload {
            Payload::ComponentTypeSection(section) => {
                let range = section.range();
                self.component_types(bytes, range)?;
                self.define(own(frames)?, section.count() as usize)?;
                Ok(())
            }
            Payload::CoreTypeSection(section) => {
                for ty in each(section.clone()) {
                    match ty? {
                        CoreType::Rec(group) => self.core_type(&group)?,
                        CoreType::Module(parts) => CORE_TYPES.add(&mut self.core_types, parts.len() as u64)?,
                    }
                }
                self.define(own(frames)?, section.count() as usize)?;
                Ok(())
            }
            Payload::ComponentCanonicalSection(section) => {
                FUNCTIONS.add(&mut self.functions, u64::from(section.count()))?;
                let frame = own(frames)?;
                frame
                    .totals
                    .hold(u64::from(section.count()).saturating_mul(CANON_BYTES));
                self.define(frame, section.count() as usize)?;
                Ok(())
            }
            Payload::InstanceSection(section) => {
                for instance in each(section.clone()) {
                    let frame = own(frames)?;
                    match instance? {
                        Instance::Instantiate { module_index, args } => {
                            let module = frame.modules.get(module_index as usize).copied().flatten();
                            let module = module.ok_or_else(|| given("core module"))?;
                            self.written.instantiate(&module);
                            self.written.check_links()?;
                            frame.totals.instantiate(&module);
                            self.define(frame, 1 + args.len())?;
                        }
                        Instance::FromExports(exports) => self.define(frame, 1 + exports.len())?,
                    }
                }
                Ok(())
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in each(section.clone()) {
                    let frame = own(frames)?;
                    match instance? {
                        ComponentInstance::Instantiate { component_index, args } => {
                            let inner = frame.components.get(component_index as usize).copied().flatten();
                            let inner = inner.ok_or_else(|| given("component"))?;
                            frame.totals.component_instances = frame.totals.component_instances.saturating_add(1);
                            frame.totals.hold(COMPONENT_INSTANCE_BYTES);
                            frame.totals.add(&inner);
                            self.define(frame, 1 + args.len())?;
                        }
                        ComponentInstance::FromExports(exports) => {
                            exports.iter().try_for_each(|export| name(export.name.name))?;
                            self.define(frame, 1 + exports.len())?;
                        }
                    }
                }
                Ok(())
            }
            Payload::ComponentAliasSection(section) => {
                for alias in each(section.clone()) {
                    let (mut component, mut module) = (None, None);
                    match alias? {
                        ComponentAlias::Outer { kind, count, index } => {
                            let from = outer(frames, count).and_then(|at| frames.get(at));
                            match kind {
                                ComponentOuterAliasKind::Component => {
                                    component = Some(from.and_then(|from| from.component(index)));
                                }
                                ComponentOuterAliasKind::CoreModule => {
                                    module = Some(from.and_then(|from| from.module_at(index)));
                                }
                                _ => {}
                            }
                        }
                        ComponentAlias::InstanceExport { kind, .. } => match kind {
                            ComponentExternalKind::Component => component = Some(None),
                            ComponentExternalKind::Module => module = Some(None),
                            _ => {}
                        },
                        ComponentAlias::CoreInstanceExport { .. } => {}
                    }
                    let frame = own(frames)?;
                    frame.components.extend(component);
                    frame.modules.extend(module);
                    self.define(frame, 1)?;
                }
                Ok(())
            }
            Payload::ComponentImportSection(section) => {
                for import in each(section.clone()) {
                    let import = import?;
                    name(import.name.name)?;
                    let frame = own(frames)?;
                    match import.ty {
                        ComponentTypeRef::Component(_) => frame.components.push(None),
                        ComponentTypeRef::Module(_) => frame.modules.push(None),
                        _ => {}
                    }
                    self.define(frame, 1)?;
                }
                Ok(())
            }
            Payload::ComponentExportSection(section) => {
                for export in each(section.clone()) {
                    let export = export?;
                    name(export.name.name)?;
                    let frame = own(frames)?;
                    match export.kind {
                        ComponentExternalKind::Component => frame.components.push(frame.component(export.index)),
                        ComponentExternalKind::Module => frame.modules.push(frame.module_at(export.index)),
                        _ => {}
                    }
                    self.define(frame, 1)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Counts definitions of a component: as written, and for each copy of the component.
    fn define(&mut self, frame: &mut Frame, count: usize) -> Result<(), ComponentError> {
        frame.totals.definitions = frame.totals.definitions.saturating_add(count as u64);
        DEFINITIONS.add(&mut self.written.definitions, count as u64)
    }

    fn label(&mut self, label: &str) -> Result<(), ComponentError> {
        LABEL_BYTES.check(label.len() as u64)?;
        LABELS.add(&mut self.labels, label.len() as u64)
    }

    /// Counts the names in a type that is not a component or instance type.
    fn labels(&mut self, ty: &ComponentType<'_>) -> Result<(), ComponentError> {
        match ty {
            ComponentType::Defined(ComponentDefinedType::Record(fields)) => {
                fields.iter().try_for_each(|(label, _)| self.label(label))
            }
            ComponentType::Defined(ComponentDefinedType::Variant(cases)) => {
                cases.iter().try_for_each(|case| self.label(case.name))
            }
            ComponentType::Defined(ComponentDefinedType::Flags(labels) | ComponentDefinedType::Enum(labels)) => {
                labels.iter().try_for_each(|label| self.label(label))
            }
            ComponentType::Func(func) => func.params.iter().try_for_each(|(label, _)| self.label(label)),
            _ => Ok(()),
        }
    }

    fn core_type(&mut self, group: &wasmparser::RecGroup) -> Result<(), ComponentError> {
        for ty in group.types() {
            CORE_TYPES.add(&mut self.core_types, 1)?;
            if let wasmparser::CompositeInnerType::Func(func) = &ty.composite_type.inner {
                let parts = func.params().len() + func.results().len();
                CORE_TYPE_PARTS.add(&mut self.core_type_parts, parts as u64)?;
            }
        }
        Ok(())
    }

    /// Walks the declarations of a section of types without recursion, because the parser's own recursion is as deep as
    /// the types nest.
    fn component_types(&mut self, bytes: &[u8], range: Range<usize>) -> Result<(), ComponentError> {
        const TYPE: u8 = 0x01;
        const IMPORT: u8 = 0x03;
        const COMPONENT: u8 = 0x41;
        const INSTANCE: u8 = 0x42;
        let section = bytes.get(range.clone()).unwrap_or_default();
        let mut reader = BinaryReader::new(section, range.start);
        // The number of declarations left in the section and in each open type; those of the section are types.
        let mut open = vec![reader.read_var_u32().map_err(ComponentError::broken)?];
        while let Some(left) = open.last_mut() {
            let Some(less) = left.checked_sub(1) else {
                open.pop();
                continue;
            };
            *left = less;
            TYPES.add(&mut self.types, 1)?;
            let at = reader.current_position();
            let inner = open.len() > 1;
            let byte = |at: usize| section.get(at).copied();
            let (kind, ty) = match inner {
                true => (byte(at), byte(at + 1)),
                false => (Some(TYPE), byte(at)),
            };
            let read = match (kind, ty) {
                (Some(TYPE), Some(COMPONENT | INSTANCE)) => {
                    let header = reader.read_bytes(1 + usize::from(inner));
                    let count = header.and_then(|_| reader.read_var_u32());
                    NESTED_TYPES.add(&mut self.nested_types, u64::from(inner))?;
                    count.map(|count| open.push(count))
                }
                (Some(TYPE), _) if !inner => {
                    let ty = reader.read::<ComponentType<'_>>().map_err(ComponentError::broken)?;
                    self.labels(&ty)?;
                    Ok(())
                }
                (Some(IMPORT), _) => {
                    let import = reader.read_u8().and_then(|_| reader.read::<ComponentImport<'_>>());
                    let import = import.map_err(ComponentError::broken)?;
                    name(import.name.name)?;
                    Ok(())
                }
                _ => {
                    let declaration = reader.read::<InstanceTypeDeclaration<'_>>();
                    match declaration.map_err(ComponentError::broken)? {
                        InstanceTypeDeclaration::Export { name: export, .. } => name(export.name)?,
                        InstanceTypeDeclaration::Type(ty) => self.labels(&ty)?,
                        InstanceTypeDeclaration::CoreType(CoreType::Rec(group)) => self.core_type(&group)?,
                        InstanceTypeDeclaration::CoreType(CoreType::Module(parts)) => {
                            CORE_TYPES.add(&mut self.core_types, parts.len() as u64)?;
                        }
                        _ => {}
                    }
                    Ok(())
                }
            };
            read.map_err(ComponentError::broken)?;
            TYPE_NESTING.check(open.len() as u64 - 1)?;
        }
        Ok(())
    }
}

impl Frame {
    fn component(&self, index: u32) -> Option<Totals> {
        self.components.get(index as usize).copied().flatten()
    }

    fn module_at(&self, index: u32) -> Option<Module> {
        self.modules.get(index as usize).copied().flatten()
    }
}

/// Returns the component that is being read.
fn own(frames: &mut [Frame]) -> Result<&mut Frame, ComponentError> {
    frames
        .last_mut()
        .ok_or_else(|| ComponentError::broken("a section without a header"))
}

fn name(name: &str) -> Result<(), ComponentError> {
    NAME_BYTES.check(name.len() as u64)
}

fn given(part: &'static str) -> ComponentError {
    ComponentError::Uncountable { part }
}

/// Returns the items of a section, with converted errors.
fn each<'a, T: wasmparser::FromReader<'a>>(
    section: wasmparser::SectionLimited<'a, T>,
) -> impl Iterator<Item = Result<T, ComponentError>> {
    section.into_iter().map(|item| item.map_err(ComponentError::broken))
}
