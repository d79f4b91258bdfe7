//! The parts of a component, counted in one pass.

use std::ops::Range;

use wasmparser::{
    BinaryReader, ComponentAlias, ComponentExternalKind, ComponentImport, ComponentInstance, ComponentOuterAliasKind,
    ComponentType, ComponentTypeRef, CoreType, Encoding, Instance, InstanceTypeDeclaration, Parser, Payload,
};

use super::*;
use crate::bytes::broken;
use crate::embedded::WIT_SECTION;

/// Counts the parts of the component `bytes`, and then what its types expand to.
///
/// # Errors
///
/// An error of class [`Plugin`](agenthost_core::error::ErrorClass::Plugin) that names the bound that is exceeded and the count, or says that
/// the bytes cannot be parsed.
pub(crate) fn structure(bytes: &[u8]) -> Result<(), Error> {
    let mut counts = Counts::default();
    let mut frames: Vec<Frame> = Vec::new();
    let mut root = Totals::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| broken(&error))?;
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
                Some(_) => {}
                None => root = ended.totals,
            }
        } else {
            counts.payload(bytes, &payload, &mut frames)?;
        }
    }
    root.check()?;
    types::expanded(bytes)
}

/// What is made when a component is instantiated, with all that is instantiated in it.
#[derive(Clone, Copy, Default)]
struct Totals {
    core_instances: u64,
    component_instances: u64,
    definitions: u64,
}

impl Totals {
    fn add(&mut self, other: &Self) {
        self.core_instances = self.core_instances.saturating_add(other.core_instances);
        self.component_instances = self.component_instances.saturating_add(other.component_instances);
        self.definitions = self.definitions.saturating_add(other.definitions);
    }

    fn check(&self) -> Result<(), Error> {
        CORE_INSTANCES.check(self.core_instances)?;
        COMPONENT_INSTANCES.check(self.component_instances)?;
        DEFINITIONS.check(self.definitions)
    }
}

/// A component or module that is being read.
#[derive(Default)]
struct Frame {
    is_component: bool,
    /// The components that it can instantiate, by index; `None` for one that is given to it.
    components: Vec<Option<Totals>>,
    totals: Totals,
}

/// Parts of which there is one for each time that they stand in the bytes.
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
}

impl Counts {
    fn payload(&mut self, bytes: &[u8], payload: &Payload<'_>, frames: &mut [Frame]) -> Result<(), Error> {
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
            Payload::ImportSection(section) => CORE_IMPORTS.add(&mut self.core_imports, u64::from(section.count()))?,
            Payload::FunctionSection(section) => FUNCTIONS.add(&mut self.functions, u64::from(section.count()))?,
            Payload::TableSection(section) => {
                TABLES.add(&mut self.tables, u64::from(section.count()))?;
                for table in each(section.clone()) {
                    TABLE_ELEMENTS.check(table?.ty.initial)?;
                }
            }
            Payload::MemorySection(section) => TABLES.add(&mut self.tables, u64::from(section.count()))?,
            Payload::GlobalSection(section) => GLOBALS.add(&mut self.globals, u64::from(section.count()))?,
            Payload::ExportSection(section) => CORE_EXPORTS.add(&mut self.core_exports, u64::from(section.count()))?,
            Payload::DataSection(section) => DATA_SEGMENTS.add(&mut self.data_segments, u64::from(section.count()))?,
            Payload::ElementSection(section) => {
                ELEMENT_SEGMENTS.add(&mut self.element_segments, u64::from(section.count()))?;
                for element in each(section.clone()) {
                    let entries = match element?.items {
                        wasmparser::ElementItems::Functions(functions) => functions.count(),
                        wasmparser::ElementItems::Expressions(_, expressions) => expressions.count(),
                    };
                    ELEMENTS.add(&mut self.elements, u64::from(entries))?;
                }
            }
            Payload::CodeSectionEntry(body) => BODY_BYTES.check(body.range().len() as u64)?,
            _ => self.component_payload(bytes, payload, frames)?,
        }
        Ok(())
    }

    fn component_payload(&mut self, bytes: &[u8], payload: &Payload<'_>, frames: &mut [Frame]) -> Result<(), Error> {
        // What an outer alias means, before the frame itself is changed.
        let outer = |frames: &[Frame], count: u32, index: u32| {
            let at = frames.len().checked_sub(1 + count as usize)?;
            frames.get(at)?.components.get(index as usize).copied().flatten()
        };
        match payload {
            Payload::ComponentTypeSection(section) => {
                let range = section.range();
                self.component_types(bytes, range)?;
                own(frames)?.define(section.count() as usize);
                Ok(())
            }
            Payload::CoreTypeSection(section) => {
                for ty in each(section.clone()) {
                    match ty? {
                        CoreType::Rec(group) => self.core_type(&group)?,
                        CoreType::Module(parts) => CORE_TYPES.add(&mut self.core_types, parts.len() as u64)?,
                    }
                }
                own(frames)?.define(section.count() as usize);
                Ok(())
            }
            Payload::ComponentCanonicalSection(section) => {
                FUNCTIONS.add(&mut self.functions, u64::from(section.count()))?;
                own(frames)?.define(section.count() as usize);
                Ok(())
            }
            Payload::InstanceSection(section) => {
                for instance in each(section.clone()) {
                    let frame = own(frames)?;
                    match instance? {
                        Instance::Instantiate { args, .. } => {
                            frame.totals.core_instances = frame.totals.core_instances.saturating_add(1);
                            frame.define(1 + args.len());
                        }
                        Instance::FromExports(exports) => frame.define(1 + exports.len()),
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
                            let inner = inner.ok_or_else(given)?;
                            frame.totals.component_instances = frame.totals.component_instances.saturating_add(1);
                            frame.totals.add(&inner);
                            frame.define(1 + args.len());
                        }
                        ComponentInstance::FromExports(exports) => {
                            exports.iter().try_for_each(|export| name(export.name.name))?;
                            frame.define(1 + exports.len());
                        }
                    }
                }
                Ok(())
            }
            Payload::ComponentAliasSection(section) => {
                for alias in each(section.clone()) {
                    let component = match alias? {
                        ComponentAlias::Outer {
                            kind: ComponentOuterAliasKind::Component,
                            count,
                            index,
                        } => Some(outer(frames, count, index)),
                        ComponentAlias::InstanceExport {
                            kind: ComponentExternalKind::Component,
                            ..
                        } => Some(None),
                        _ => None,
                    };
                    let frame = own(frames)?;
                    frame.components.extend(component);
                    frame.define(1);
                }
                Ok(())
            }
            Payload::ComponentImportSection(section) => {
                for import in each(section.clone()) {
                    let import = import?;
                    name(import.name.name)?;
                    let frame = own(frames)?;
                    if matches!(import.ty, ComponentTypeRef::Component(_)) {
                        frame.components.push(None);
                    }
                    frame.define(1);
                }
                Ok(())
            }
            Payload::ComponentExportSection(section) => {
                for export in each(section.clone()) {
                    let export = export?;
                    name(export.name.name)?;
                    let frame = own(frames)?;
                    if export.kind == ComponentExternalKind::Component {
                        let exported = frame.components.get(export.index as usize).copied().flatten();
                        frame.components.push(exported);
                    }
                    frame.define(1);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn core_type(&mut self, group: &wasmparser::RecGroup) -> Result<(), Error> {
        for ty in group.types() {
            CORE_TYPES.add(&mut self.core_types, 1)?;
            if let wasmparser::CompositeInnerType::Func(func) = &ty.composite_type.inner {
                let parts = func.params().len() + func.results().len();
                CORE_TYPE_PARTS.add(&mut self.core_type_parts, parts as u64)?;
            }
        }
        Ok(())
    }

    /// Walks over the declarations of a section of types without recursion: the parser itself goes as deep as the types nest.
    fn component_types(&mut self, bytes: &[u8], range: Range<usize>) -> Result<(), Error> {
        const TYPE: u8 = 0x01;
        const IMPORT: u8 = 0x03;
        const COMPONENT: u8 = 0x41;
        const INSTANCE: u8 = 0x42;
        let section = bytes.get(range.clone()).unwrap_or_default();
        let mut reader = BinaryReader::new(section, range.start);
        // How many declarations are left, of the section and of each type that is open; those of the section are types.
        let mut open = vec![reader.read_var_u32().map_err(|error| broken(&error))?];
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
                    count.map(|count| open.push(count))
                }
                (Some(TYPE), _) if !inner => reader.read::<ComponentType<'_>>().map(|_| ()),
                (Some(IMPORT), _) => {
                    let import = reader.read_u8().and_then(|_| reader.read::<ComponentImport<'_>>());
                    let import = import.map_err(|error| broken(&error))?;
                    name(import.name.name)?;
                    Ok(())
                }
                _ => {
                    let declaration = reader.read::<InstanceTypeDeclaration<'_>>();
                    match declaration.map_err(|error| broken(&error))? {
                        InstanceTypeDeclaration::Export { name: export, .. } => name(export.name)?,
                        InstanceTypeDeclaration::CoreType(CoreType::Rec(group)) => self.core_type(&group)?,
                        InstanceTypeDeclaration::CoreType(CoreType::Module(parts)) => {
                            CORE_TYPES.add(&mut self.core_types, parts.len() as u64)?;
                        }
                        _ => {}
                    }
                    Ok(())
                }
            };
            read.map_err(|error| broken(&error))?;
            TYPE_NESTING.check(open.len() as u64 - 1)?;
        }
        Ok(())
    }
}

impl Frame {
    fn define(&mut self, count: usize) {
        self.totals.definitions = self.totals.definitions.saturating_add(count as u64);
    }
}

/// The component that is being read.
fn own(frames: &mut [Frame]) -> Result<&mut Frame, Error> {
    frames.last_mut().ok_or_else(|| broken(&"a section without a header"))
}

fn name(name: &str) -> Result<(), Error> {
    NAME_BYTES.check(name.len() as u64)
}

fn given() -> Error {
    Error::plugin("the component instantiates a component that it imports or takes from an instance")
        .hint("Such a component cannot be counted before it is compiled; nest it where it is instantiated.")
}

/// The items of a section, with errors of ours.
fn each<'a, T: wasmparser::FromReader<'a>>(
    section: wasmparser::SectionLimited<'a, T>,
) -> impl Iterator<Item = Result<T, Error>> {
    section.into_iter().map(|item| item.map_err(|error| broken(&error)))
}
