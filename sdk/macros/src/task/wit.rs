//! Writes a task as WIT text, as an author would write it.

use std::fmt::Write as _;

use super::names::escaped;
use super::read::{Kind, Named, Task};

/// The text of the package, with a world of the package's name that imports these interfaces.
pub(super) fn text(package: &str, imports: &[String], task: &Task) -> String {
    let mut text = String::new();
    docs(&mut text, "", &task.docs);
    let _ = writeln!(text, "package {package};\n\ninterface task {{");
    for (interface, names) in &task.uses {
        let names: Vec<String> = names
            .iter()
            .map(|(name, local)| match name == local {
                true => escaped(name),
                false => format!("{} as {}", escaped(name), escaped(local)),
            })
            .collect();
        let _ = writeln!(text, "  use {interface}.{{{}}};", names.join(", "));
    }
    if !task.uses.is_empty() {
        text.push('\n');
    }
    for named in &task.types {
        self::named(&mut text, named);
        text.push('\n');
    }
    let run = &task.run;
    docs(&mut text, "  ", &run.docs);
    let asyncness = if run.asyncness { "async " } else { "" };
    let parameter = escaped(&run.parameter);
    let _ = writeln!(
        text,
        "  run: {asyncness}func({parameter}: {}) -> {};\n}}\n",
        run.input, run.output
    );
    text.push_str(&world(package, imports, true));
    text
}

/// The package without its task, to resolve the types that its imports bring.
pub(super) fn imports(package: &str, imports: &[String]) -> String {
    format!("package {package};\n\n{}", world(package, imports, false))
}

fn world(package: &str, imports: &[String], export: bool) -> String {
    // The name `task` belongs to the interface.
    let name = match package.split([':', '@']).nth(1) {
        Some(name) if name != "task" => name,
        _ => "plugin",
    };
    let mut text = format!("world {name} {{\n  include agenthost:plugin/plugin@0.1.0;\n");
    for import in imports {
        let _ = writeln!(text, "  import {import};");
    }
    text.push_str(if export { "  export task;\n}\n" } else { "}\n" });
    text
}

fn named(text: &mut String, named: &Named) {
    docs(text, "  ", &named.docs);
    let kind = match named.kind {
        Kind::Record => "record",
        Kind::Variant => "variant",
        Kind::Enum => "enum",
    };
    let _ = writeln!(text, "  {kind} {} {{", escaped(&named.name));
    for member in &named.members {
        docs(text, "    ", &member.docs);
        let name = escaped(&member.name);
        let _ = match (&member.ty, named.kind) {
            (Some(ty), Kind::Record) => writeln!(text, "    {name}: {ty},"),
            (Some(ty), _) => writeln!(text, "    {name}({ty}),"),
            (None, _) => writeln!(text, "    {name},"),
        };
    }
    text.push_str("  }\n");
}

fn docs(text: &mut String, indent: &str, lines: &[String]) {
    for line in lines {
        let _ = writeln!(text, "{}", format!("{indent}/// {line}").trim_end());
    }
}
