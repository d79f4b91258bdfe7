//! Components that are small, or within the size limit, and cost far more to read or to compile.
//!
//! They are made here because as text most of them would be megabytes. Modules are put together byte by byte; the
//! component around them is compiled from text.

use std::fmt::Write as _;

/// The most bytes of a function's body that the engine's own limit lets through.
const LARGEST_BODY: usize = 7_600_000;
/// `i32.load` of address 0: a value that the compiler cannot know.
const UNKNOWN: &[u8] = &[0x41, 0, 0x28, 2, 0];

/// The bomb of this name.
///
/// # Panics
///
/// If there is no such bomb.
pub fn bomb(name: &str) -> Vec<u8> {
    match name {
        // Of 108 instances each level has ten times as many as the one below.
        "instances" => text(&instances(8, 10, true)),
        "instances-empty" => text(&instances(8, 10, false)),
        "instances-wide" => text(&instances(2, 900, true)),
        "phis" => module(&[phis(2_000, 1_000)], &[]),
        "phis-large" => module(&[phis(20_000, 10_000)], &[]),
        "branches" => module(&[branches(1_000, 300_000)], &[]),
        "jump-table" => module(&[jump_table(1, 7_000_000)], &[]),
        "jump-tables" => module(&vec![jump_table(1_000, 2_000); 100], &[]),
        "blocks" => module(&[blocks(2_000_000)], &[]),
        "values" => module(&[values(1_000_000)], &[]),
        "functions" => module(&vec![vec![0, 0x0b]; 199_000], &[]),
        "function-large" => module(&[work(LARGEST_BODY / 10 - 10)], &[]),
        "functions-large" => module(&vec![work(LARGEST_BODY / 10 - 10); 8], &[]),
        "calls" => calls(),
        "locals" => module(&vec![[leb(1), leb(49_000), vec![0x7f, 0x0b]].concat(); 20_000], &[]),
        "elements" => module(
            &[],
            &[
                section(4, &[vec![1, 0x70, 0], leb(9_900_000)].concat()),
                section(9, &elements(9_900_000)),
            ],
        ),
        "elements-passive" => module(
            &[],
            &[section(
                9,
                &[vec![1, 1, 0], leb(9_900_000), vec![0; 9_900_000]].concat(),
            )],
        ),
        "segments" => module(
            &[],
            &[section(
                11,
                &[leb(99_999), [0, 0x41, 0, 0x0b, 1, b'x'].repeat(99_999)].concat(),
            )],
        ),
        "data" => module(
            &[],
            &[section(11, &[vec![1, 1], leb(60 << 20), vec![0; 60 << 20]].concat())],
        ),
        "table" => module(&[], &[section(4, &[vec![1, 0x70, 0], leb(9_999_999)].concat())]),
        "components-nested" => nested(20_000),
        "types-nameless" => text(&nameless(18)),
        "types-nameless-wide" => text(&nameless(24)),
        "types-many" => [
            text(&task("string", "")),
            section(7, &[leb(900_000), vec![0x73; 900_000]].concat()),
        ]
        .concat(),
        "type-sections" => [text(&task("string", "")), section(7, &[1, 0x73]).repeat(500_000)].concat(),
        "type-fields" => text(&named("record", 90_000)),
        "type-cases" => text(&named("enum", 300_000)),
        "type-deep" => text(&deep(95)),
        "custom-sections" => [
            text(&task("string", "")),
            section(0, &[vec![4], b"junk".to_vec()].concat()).repeat(1_000_000),
        ]
        .concat(),
        "interfaces-embedded" => interfaces(400),
        "imports" => text(&imports(50_000)),
        "arguments" => text(&arguments(1_000, 900, 990)),
        "ascriptions" => text(&ascriptions(900, 900)),
        "labels" => text(&task("$r", &long_labels(2_000, 900))),
        "core-imports" => text(&core_imports(90_000, 900)),
        "globals" => text(&copied("(global (mut i64) (i64.const 1))".repeat(60_000), 20)),
        "instance-state" => text(&copied("(global (mut i64) (i64.const 1))".repeat(60_000), 3)),
        "core-instances" => text(&copied(String::new(), 500)),
        "data-copied" => text(&copied(
            format!("(memory 40) (data (i32.const 0) \"{}\")", "x".repeat(2 << 20)),
            90,
        )),
        "wit-includes" => embedded(&wit_includes(9_000, 9_000)),
        "wit-renames" => embedded(&wit_renames(13)),
        "wit-interfaces" => embedded(&wit_interfaces(9_000)),
        "wit-types" => embedded(&wit_types(20_000)),
        other => panic!("no bomb is named {other}"),
    }
}

/// A module whose `run` and `realloc` are what a plugin needs, with these function bodies after them.
fn module(bodies: &[Vec<u8>], sections: &[Vec<u8>]) -> Vec<u8> {
    assemble(&[], &vec![2; bodies.len()], bodies, sections)
}

/// The same with more function types, from number 3 on, and the type of each function.
fn assemble(types: &[Vec<u8>], functions: &[u32], bodies: &[Vec<u8>], sections: &[Vec<u8>]) -> Vec<u8> {
    const I32: u8 = 0x7f;
    let run = vec![0x60, 2, I32, I32, 1, I32];
    let realloc = vec![0x60, 4, I32, I32, I32, I32, 1, I32];
    let types: Vec<_> = [run, realloc, vec![0x60, 0, 0]].iter().chain(types).cloned().collect();
    let functions: Vec<_> = [0, 1].iter().chain(functions).map(|ty| leb(*ty as usize)).collect();
    let export = |name: &str, kind: [u8; 2]| [leb(name.len()), name.into(), kind.into()].concat();
    let own = [vec![0, 0x41, 16, 0x0b], vec![0, 0x41, 0x80, 8, 0x0b]];
    let codes: Vec<_> = own
        .iter()
        .chain(bodies)
        .map(|body| [leb(body.len()), body.clone()].concat())
        .collect();
    let exports = [
        export("memory", [2, 0]),
        export("run", [0, 0]),
        export("realloc", [0, 1]),
    ];
    let mut parts = vec![
        section(1, &vector(&types)),
        section(3, &vector(&functions)),
        section(5, &[1, 0, 1]),
        section(7, &vector(&exports)),
        section(10, &vector(&codes)),
    ];
    parts.extend(sections.iter().cloned());
    // A section's place follows its number, which is its first byte; all of these are in that order.
    parts.sort_by_key(|part| part[0]);
    let module = [b"\0asm\x01\0\0\0".to_vec(), parts.concat()].concat();
    let around = text(&task("string", ""));
    assert_eq!(around[8], 1, "the module comes first");
    let (length, digits) = unleb(&around[9..]);
    [&around[..8], &section(1, &module), &around[9 + digits + length..]].concat()
}

/// A function with loops in each other, in the innermost of which every local changes.
fn phis(locals: usize, loops: usize) -> Vec<u8> {
    let mut body = [leb(1), leb(locals), vec![0x7f]].concat();
    for local in 0..locals {
        body.extend([UNKNOWN, &[0x21], &leb(local)].concat());
    }
    body.extend([3, 0x40].repeat(loops));
    for local in 0..locals {
        body.extend([&[0x20], &*leb(local), &[0x41, 1, 0x6a, 0x21], &leb(local)].concat());
    }
    body.extend([UNKNOWN, &[0x0d, 0, 0x0b]].concat().repeat(loops));
    body.push(0x0b);
    body
}

/// A function with so many `if`s, each of which changes one of its locals on both sides.
fn branches(locals: usize, count: usize) -> Vec<u8> {
    let mut body = [leb(1), leb(locals), vec![0x7f]].concat();
    for at in 0..count {
        let local = leb(at % locals);
        let change = |by: u8| [&[0x20], &*local, &[0x41, by, 0x6a, 0x21], &local].concat();
        body.extend([UNKNOWN, &[4, 0x40], &change(1), &[5], &change(2), &[0x0b]].concat());
    }
    for local in 0..locals {
        body.extend([&[0x41, 0, 0x20], &*leb(local), &[0x36, 2, 0]].concat());
    }
    body.push(0x0b);
    body
}

/// A function with blocks in each other and a `br_table` to all of them.
fn jump_table(blocks: usize, targets: usize) -> Vec<u8> {
    let mut body = vec![0];
    body.extend([2, 0x40].repeat(blocks));
    body.extend([vec![0x41, 0, 0x0e], leb(targets)].concat());
    for target in 0..=targets {
        body.extend(leb(target % blocks));
    }
    body.extend(vec![0x0b; blocks + 1]);
    body
}

/// A function with so many blocks in each other.
fn blocks(count: usize) -> Vec<u8> {
    [vec![0], [2, 0x40].repeat(count), vec![0x0b; count + 1]].concat()
}

/// A function that holds so many values at once.
fn values(count: usize) -> Vec<u8> {
    [vec![0], UNKNOWN.repeat(count), vec![0x6a; count - 1], vec![0x1a, 0x0b]].concat()
}

/// A function that does the same so many times.
fn work(times: usize) -> Vec<u8> {
    [
        vec![1, 1, 0x7f],
        [0x20, 0, 0x28, 2, 0, 0x41, 7, 0x6a, 0x21, 0].repeat(times),
        vec![0x0b],
    ]
    .concat()
}

/// Functions that call one with 1,000 parameters and results, 20,000 times each.
fn calls() -> Vec<u8> {
    let many = [leb(1_000), vec![0x7f; 1_000]].concat();
    let ty = [vec![0x60], many.clone(), many].concat();
    let mut called = vec![0];
    for local in 0..1_000 {
        called.extend([vec![0x20], leb(local)].concat());
    }
    called.push(0x0b);
    let calls = [
        vec![0],
        [0x41, 0].repeat(1_000),
        [0x10, 2].repeat(20_000),
        vec![0x1a; 1_000],
        vec![0x0b],
    ]
    .concat();
    let bodies: Vec<_> = std::iter::once(called).chain(vec![calls; 20]).collect();
    let functions: Vec<_> = std::iter::once(3).chain(vec![2; 20]).collect();
    assemble(&[ty], &functions, &bodies, &[])
}

/// The segment that fills a table of so many elements with the first function.
fn elements(count: usize) -> Vec<u8> {
    [vec![1, 0, 0x41, 0, 0x0b], leb(count), vec![0; count]].concat()
}

/// A plugin with this input type, in text form; `more` follows its module.
fn task(input: &str, more: &str) -> String {
    let params = if input == "string" { "i32 i32" } else { "i32" };
    format!(
        r#"(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "run") (param {params}) (result i32) i32.const 16)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  {more}
  (core instance $i (instantiate $m))
  (func $run (param "input" {input}) (result (result string (error string)))
    (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance $task (export "run" (func $run)))
  (export "attack:guest/task@0.1.0" (instance $task)))"#
    )
}

/// A plugin beside a component that instantiates another one `width` times, which does so too, and so on.
fn instances(depth: usize, width: usize, module: bool) -> String {
    let inside = r#"(core module $m (func (export "f"))) (core instance (instantiate $m))"#;
    let mut nested = format!("(component $c0 {})", if module { inside } else { "" });
    for level in 1..=depth {
        let all = format!("(instance (instantiate $c{})) ", level - 1).repeat(width);
        nested = format!("(component $c{level} {nested} {all})");
    }
    task("string", &format!("{nested} (instance (instantiate $c{depth}))"))
}

/// Components in each other, so many, with nothing inside.
fn nested(depth: usize) -> Vec<u8> {
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    // From the innermost outwards, written backwards.
    let mut backwards: Vec<u8> = EMPTY.iter().rev().copied().collect();
    for _ in 0..depth {
        let length = leb(backwards.len());
        backwards.extend(length.iter().rev());
        backwards.push(4);
        backwards.extend(EMPTY.iter().rev());
    }
    backwards.reverse();
    backwards
}

/// A plugin whose input is a pair of a pair of a pair, where every pair is twice the same type.
fn nameless(depth: usize) -> String {
    let mut types = "(type $t0 (tuple string string))".to_owned();
    for level in 1..depth {
        let _ = write!(types, "(type $t{level} (tuple $t{0} $t{0}))", level - 1);
    }
    task(&format!("$t{}", depth - 1), &types)
}

/// A plugin whose input is a list of lists of lists.
fn deep(depth: usize) -> String {
    let mut types = "(type $t0 string)".to_owned();
    for level in 1..depth {
        let _ = write!(types, "(type $t{level} (list $t{}))", level - 1);
    }
    task(&format!("$t{}", depth - 1), &types).replace("(param i32)", "(param i32 i32)")
}

/// A plugin whose input is a record or an enum with so many names.
fn named(kind: &str, count: usize) -> String {
    let mut names = String::new();
    for at in 0..count {
        let _ = match kind {
            "record" => write!(names, "(field \"f{at}\" u8) "),
            _ => write!(names, "\"c{at}\" "),
        };
    }
    let types = format!("(type $r ({kind} {names})) (export $exported \"r\" (type $r))");
    task("$exported", &types)
}

/// A plugin that imports so many functions.
fn imports(count: usize) -> String {
    let mut imports = String::new();
    for at in 0..count {
        let _ = write!(imports, "(import \"f{at}\" (func))");
    }
    task("string", &imports)
}

/// An instance type with so many functions that take a record of so many fields.
fn interface(functions: usize, fields: usize) -> String {
    let fields: String = (0..fields).map(|at| format!("(field \"f{at}\" u8)")).collect();
    let functions: String = (0..functions)
        .map(|at| format!("(export \"e{at}\" (func (type $f)))"))
        .collect();
    format!(
        "(instance (type $t (record {fields})) (export \"t\" (type $te (eq $t))) (type $f (func (param \"a\" $te))) {functions})"
    )
}

/// A plugin beside so many instances of a component, each of which gets a large instance.
fn arguments(functions: usize, fields: usize, count: usize) -> String {
    let interface = interface(functions, fields);
    let instances = "(instance (instantiate $c (with \"x\" (instance $x))))".repeat(count);
    task(
        "string",
        &format!(
            "(type $it {interface}) (import \"x\" (instance $x (type $it)))
             (component $c (type $it {interface}) (import \"x\" (instance (type $it)))) {instances}"
        ),
    )
}

/// A plugin that exports an instance so many times, each with its type.
fn ascriptions(fields: usize, count: usize) -> String {
    let interface = interface(1, fields);
    let exports: String = (0..count)
        .map(|at| format!("(export \"y{at}\" (instance $x) (instance (type $as)))"))
        .collect();
    task(
        "string",
        &format!("(type $it {interface}) (import \"x\" (instance $x (type $it))) (type $as {interface}) {exports}"),
    )
}

/// The type `$r`: a record of so many fields of a type with a name of so many bytes.
fn long_labels(bytes: usize, fields: usize) -> String {
    let fields: String = (0..fields).map(|at| format!("(field \"g{at}\" $ea)")).collect();
    format!(
        "(type $a (record (field \"f{}\" u8))) (export $ea \"a\" (type $a)) (type $rr (record {fields})) (export $r \"r\" (type $rr))",
        "a".repeat(bytes)
    )
}

/// A plugin beside so many instances of a module with so many imports.
fn core_imports(imports: usize, count: usize) -> String {
    let exports: String = (0..imports)
        .map(|at| format!("(export \"{at:x}\" (func $f))"))
        .collect();
    let imports: String = (0..imports)
        .map(|at| format!("(import \"a\" \"{at:x}\" (func))"))
        .collect();
    let instances = "(core instance (instantiate $b (with \"a\" (instance $ai))))".repeat(count);
    task(
        "string",
        &format!(
            "(core module $a (func $f) {exports}) (core instance $ai (instantiate $a)) (core module $b {imports}) {instances}"
        ),
    )
}

/// A plugin beside so many instances of a module with these fields.
fn copied(fields: String, count: usize) -> String {
    let instances = "(core instance (instantiate $d))".repeat(count);
    task("string", &format!("(core module $d {fields}) {instances}"))
}

/// A plugin that embeds a WIT text.
fn embedded(wit: &str) -> Vec<u8> {
    let wit = format!(
        "package attack:guest@0.1.0;\ninterface task {{ run: func(input: string) -> result<string, string>; }}\n{wit}"
    );
    let text = serde_json::json!({"format": 1, "files": [["world.wit", wit]], "deps": []}).to_string();
    let name = b"agenthost:wit:attack:guest";
    let custom = section(0, &[leb(name.len()), name.to_vec(), text.into_bytes()].concat());
    [self::text(&task("string", "")), custom].concat()
}

/// Worlds that all include a world of so many imports.
fn wit_includes(imports: usize, worlds: usize) -> String {
    let imports: String = (0..imports).map(|at| format!("import i{at}: func();")).collect();
    let worlds: String = (0..worlds).map(|at| format!("world w{at} {{include w;}}\n")).collect();
    format!("world w {{ {imports} }}\n{worlds}")
}

/// Worlds each of which includes the one before twice, the second time with other names, and a long comment that is
/// copied with them.
fn wit_renames(levels: usize) -> String {
    let mut text = format!("world w0 {{ /// {}\n import i0: func(); }}\n", "x".repeat(8_000));
    for level in 1..levels {
        let names: Vec<_> = (0..1 << (level - 1))
            .map(|at| format!("i{at} as i{}", at + (1 << (level - 1))))
            .collect();
        let below = level - 1;
        let _ = writeln!(
            text,
            "world w{level} {{ include w{below}; include w{below} with {{ {} }} }}",
            names.join(", ")
        );
    }
    text
}

/// Interfaces each of which uses the one before, and a world with the last.
fn wit_interfaces(count: usize) -> String {
    let mut text = "interface i0 { type a = u8; }\n".to_owned();
    for at in 1..count {
        let _ = writeln!(text, "interface i{at} {{ use i{}.{{a}}; }}", at - 1);
    }
    let _ = writeln!(text, "world w {{ import i{}; }}", count - 1);
    text
}

/// Types each of which is a list of the one before.
fn wit_types(count: usize) -> String {
    let mut text = "interface types { type t0 = u8; ".to_owned();
    for at in 1..count {
        let _ = write!(text, "type t{at}=list<t{}>;", at - 1);
    }
    let _ = write!(text, " f: func(a: t{}); }} world w {{ import types; }}", count - 1);
    text
}

/// A plugin with this many descriptions of its interface, each of a large one.
fn interfaces(count: usize) -> Vec<u8> {
    let described = super::component::component("loop-run");
    let mut one = Vec::new();
    let mut at = 8;
    // The described world of a component is a custom section of its module; any section that is like it will do.
    while let Some((kind, whole)) = part(&described, at) {
        if kind == 0 {
            one = described[at..at + whole].to_vec();
        }
        at += whole;
    }
    let name = b"component-type:attack:guest@0.1.0:plugin";
    let world = wit_component_section();
    let custom = section(0, &[leb(name.len()), name.to_vec(), world].concat());
    [text(&task("string", "")), one, custom.repeat(count)].concat()
}

/// A described world with two hundred functions of two hundred parameters.
fn wit_component_section() -> Vec<u8> {
    let params: Vec<_> = (0..200).map(|at| format!("p{at}: string")).collect();
    let functions: Vec<_> = (0..200)
        .map(|at| format!("call{at}: func({});", params.join(", ")))
        .collect();
    let wit = format!(
        "package attack:guest@0.1.0; world plugin {{ import many: interface {{ {} }} }}",
        functions.join(" ")
    );
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("many.wit", &wit).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    wit_component::metadata::encode(&resolve, world, wit_component::StringEncoding::UTF8, None).unwrap()
}

/// The number of the section at `at` and its length with its head, or `None` at the end.
fn part(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let kind = *bytes.get(at)?;
    let (length, digits) = unleb(&bytes[at + 1..]);
    Some((kind, 1 + digits + length))
}

fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

pub(super) fn section(number: u8, body: &[u8]) -> Vec<u8> {
    [vec![number], leb(body.len()), body.to_vec()].concat()
}

fn vector(items: &[Vec<u8>]) -> Vec<u8> {
    [leb(items.len()), items.concat()].concat()
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut digits = Vec::new();
    loop {
        let digit = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            digits.push(digit);
            return digits;
        }
        digits.push(digit | 0x80);
    }
}

/// A number at the start of `bytes`, and how many of them it takes.
fn unleb(bytes: &[u8]) -> (usize, usize) {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return (number, at + 1);
        }
    }
    panic!("a number without an end");
}
