//! Formats a function's signature as WIT text for people: every type that it uses, with the doc comments, and the
//! function last.
//!
//! Left out: a complete package that a parser would accept. The text has no `interface` around it, and types from
//! different interfaces that share a name are prefixed with the interface's name (`types.failure`).

use std::collections::VecDeque;

use wit_parser::{Docs, Function, Resolve, Type, TypeDef, TypeDefKind, TypeId};

use super::wit::{Names, doc_lines, kind_text, text};

/// Formats the signature of `function`. Every type is printed once, in the order in which it is first mentioned.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../agenthost/doc/guests.rs"));
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use agenthost_plugin::Plugin;
/// use agenthost_plugin::types::signature::signature;
///
/// # let component = double();
/// let plugin = Plugin::read(&component)?;
/// assert_eq!(signature(&plugin.resolve, &plugin.run).trim(), "run: func(input: u32) -> u32;");
/// # Ok(())
/// # }
/// ```
pub fn signature(resolve: &Resolve, function: &Function) -> String {
    let mut printer = Printer {
        resolve,
        names: Names::default(),
        pending: VecDeque::new(),
        out: String::new(),
    };
    let params: Vec<_> = function
        .params
        .iter()
        .map(|param| format!("{}: {}", escaped(&param.name), printer.text(&param.ty)))
        .collect();
    let result = match &function.result {
        Some(ty) => format!(" -> {}", printer.text(ty)),
        None => String::new(),
    };
    while let Some((id, name)) = printer.pending.pop_front() {
        if let Some(def) = resolve.types.get(id) {
            printer.definition(def, &name);
            printer.out.push('\n');
        }
    }
    printer.docs("", &function.docs);
    let kind = if function.kind.is_async() { "async func" } else { "func" };
    let name = escaped(&function.name);
    printer
        .out
        .push_str(&format!("{name}: {kind}({}){result};\n", params.join(", ")));
    printer.out
}

struct Printer<'r> {
    resolve: &'r Resolve,
    names: Names,
    pending: VecDeque<(TypeId, String)>,
    out: String,
}

impl Printer<'_> {
    fn text(&mut self, ty: &Type) -> String {
        let mut name = namer(self.resolve, &mut self.names, &mut self.pending);
        text(self.resolve, ty, &mut name)
    }

    fn docs(&mut self, indent: &str, docs: &Docs) {
        for line in doc_lines(docs) {
            let text = format!("{indent}/// {line}");
            self.out.push_str(text.trim_end());
            self.out.push('\n');
        }
    }

    fn definition(&mut self, def: &TypeDef, name: &str) {
        self.docs("", &def.docs);
        match &def.kind {
            TypeDefKind::Record(record) => {
                self.out.push_str(&format!("record {name} {{\n"));
                for field in &record.fields {
                    let ty = self.text(&field.ty);
                    self.member(&field.name, &format!(": {ty}"), &field.docs);
                }
                self.out.push_str("}\n");
            }
            TypeDefKind::Variant(variant) => {
                self.out.push_str(&format!("variant {name} {{\n"));
                for case in &variant.cases {
                    let payload = case
                        .ty
                        .as_ref()
                        .map(|ty| format!("({})", self.text(ty)))
                        .unwrap_or_default();
                    self.member(&case.name, &payload, &case.docs);
                }
                self.out.push_str("}\n");
            }
            TypeDefKind::Enum(cases) => {
                self.out.push_str(&format!("enum {name} {{\n"));
                for case in &cases.cases {
                    self.member(&case.name, "", &case.docs);
                }
                self.out.push_str("}\n");
            }
            TypeDefKind::Flags(flags) => {
                self.out.push_str(&format!("flags {name} {{\n"));
                for flag in &flags.flags {
                    self.member(&flag.name, "", &flag.docs);
                }
                self.out.push_str("}\n");
            }
            TypeDefKind::Resource => self.out.push_str(&format!("resource {name};\n")),
            kind => {
                let mut namer = namer(self.resolve, &mut self.names, &mut self.pending);
                let ty = kind_text(self.resolve, kind, &mut namer);
                self.out.push_str(&format!("type {name} = {ty};\n"));
            }
        }
    }

    fn member(&mut self, name: &str, rest: &str, docs: &Docs) {
        self.docs("  ", docs);
        self.out.push_str(&format!("  {}{rest},\n", escaped(name)));
    }
}

/// Returns a function that names types and queues those that still have to be printed.
fn namer(
    resolve: &Resolve,
    names: &mut Names,
    pending: &mut VecDeque<(TypeId, String)>,
) -> impl FnMut(TypeId) -> String {
    move |id| {
        let (name, is_new) = names.of(resolve, id);
        let name = escaped(&name);
        if is_new {
            pending.push_back((id, name.clone()));
        }
        name
    }
}

/// Escapes a name for WIT: a keyword gets a `%` in front.
fn escaped(name: &str) -> String {
    match name {
        "as" | "async" | "bool" | "borrow" | "char" | "constructor" | "enum" | "error-context" | "export" | "f32"
        | "f64" | "flags" | "from" | "func" | "future" | "import" | "include" | "interface" | "list" | "map"
        | "option" | "own" | "package" | "record" | "resource" | "result" | "s16" | "s32" | "s64" | "s8" | "static"
        | "stream" | "string" | "tuple" | "type" | "u16" | "u32" | "u64" | "u8" | "use" | "variant" | "with"
        | "world" => format!("%{name}"),
        _ => name.to_owned(),
    }
}
