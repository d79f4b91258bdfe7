// The plugins of the documentation's examples, put together by hand: a test of the documentation builds no crate. Included
// into each example that needs one of them; no part of the library.

/// `demo:double`: `run: func(input: u32) -> u32`.
fn double() -> Vec<u8> {
    use wasm_encoder::{ExportKind, Instruction as I, ValType::I32};

    let wit =
        "package demo:double@0.1.0; interface task { run: func(input: u32) -> u32; } world double { export task; }";
    let body = [I::LocalGet(0), I::LocalGet(0), I::I32Add, I::End];
    let run = ("demo:double/task@0.1.0#run", ExportKind::Func, 0);
    guest(wit, None, &[(&[I32], &[I32], &body)], &[run])
}

/// `demo:ask`: `run: async func(input: string) -> result<string, string>`, which asks the model `fast` what it is given, in
/// one call of at most 100 output tokens. A call that fails is an error without words.
fn ask() -> Vec<u8> {
    use wasm_encoder::{BlockType, ExportKind, Instruction as I, MemArg, ValType::I32};

    const WIT: &str = "package demo:ask@0.1.0;
        interface task { run: async func(input: string) -> result<string, string>; }
        world ask { include agenthost:plugin/plugin@0.1.0; export task; }";
    // Addresses: a message, its one part, a reply and what `run` gives. The input is put behind them.
    const MESSAGE: i32 = 16;
    const PART: i32 = 32;
    const REPLY: i32 = 64;
    const GIVEN: i32 = 256;
    const FAST: i32 = 272;
    const INPUT: i32 = 1024;
    let at = |offset| MemArg {
        offset,
        align: 0,
        memory_index: 0,
    };
    let store = |address, value| [I::I32Const(address), value, I::I32Store(at(0))];
    let mut run = Vec::new();
    // `fast`, one message of the user (0) with one part, which is the input as text (0).
    run.extend(store(FAST, I::I32Const(i32::from_le_bytes(*b"fast"))));
    run.extend(store(MESSAGE + 4, I::I32Const(PART)));
    run.extend(store(MESSAGE + 8, I::I32Const(1)));
    run.extend(store(PART + 4, I::LocalGet(0)));
    run.extend(store(PART + 8, I::LocalGet(1)));
    // model; system; messages; max-tokens; schema; options; where the reply goes
    for flat in [FAST, 4, 0, 0, 0, MESSAGE, 1, 1, 100, 0, 0, 0, 0, 0, REPLY] {
        run.push(I::I32Const(flat));
    }
    run.push(I::Call(0));
    // The case of the result, and of a reply the text of its first part.
    run.extend(store(GIVEN, I::I32Const(1)));
    run.extend([
        I::I32Const(REPLY),
        I::I32Load8U(at(0)),
        I::I32Eqz,
        I::If(BlockType::Empty),
    ]);
    run.extend(store(GIVEN, I::I32Const(0)));
    for offset in [4, 8] {
        run.extend([
            I::I32Const(GIVEN),
            I::I32Const(REPLY),
            I::I32Load(at(8)),
            I::I32Load(at(offset)),
            I::I32Store(at(offset)),
        ]);
    }
    run.extend([I::End, I::I32Const(GIVEN), I::End]);
    // Memory is allocated from `INPUT` on and never freed; the global 0 is the next free address.
    let grow = [
        I::GlobalGet(0),
        I::GlobalGet(0),
        I::LocalGet(3),
        I::I32Add,
        I::I32Const(7),
        I::I32Add,
        I::I32Const(-8),
        I::I32And,
        I::GlobalSet(0),
        I::End,
    ];
    let imported = ("agenthost:plugin/llm@0.1.0", "complete", &[I32; 15][..], INPUT);
    let exports = [
        ("demo:ask/task@0.1.0#run", ExportKind::Func, 1),
        ("cabi_realloc", ExportKind::Func, 2),
        ("memory", ExportKind::Memory, 0),
    ];
    guest(
        WIT,
        Some(imported),
        &[(&[I32; 2], &[I32], &run), (&[I32; 4], &[I32], &grow)],
        &exports,
    )
}

/// A component of the WIT's only world, around a core module of these functions.
fn guest(
    wit: &str,
    import: Option<(&str, &str, &[wasm_encoder::ValType], i32)>,
    functions: &[(
        &[wasm_encoder::ValType],
        &[wasm_encoder::ValType],
        &[wasm_encoder::Instruction<'_>],
    )],
    exports: &[(&str, wasm_encoder::ExportKind, u32)],
) -> Vec<u8> {
    use wasm_encoder::{
        CodeSection, ConstExpr, EntityType, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
        ImportSection, MemorySection, MemoryType, Module, TypeSection, ValType,
    };

    let (mut types, mut imports, mut declared) = (TypeSection::new(), ImportSection::new(), FunctionSection::new());
    let (mut memories, mut globals) = (MemorySection::new(), GlobalSection::new());
    let (mut exported, mut code) = (ExportSection::new(), CodeSection::new());
    let mut known = 0;
    if let Some((module, name, params, first_free)) = import {
        types.ty().function(params.iter().copied(), []);
        imports.import(module, name, EntityType::Function(0));
        memories.memory(MemoryType {
            minimum: 1,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        let free = GlobalType {
            val_type: ValType::I32,
            mutable: true,
            shared: false,
        };
        globals.global(free, &ConstExpr::i32_const(first_free));
        known += 1;
    }
    for (params, results, body) in functions {
        types.ty().function(params.iter().copied(), results.iter().copied());
        declared.function(known);
        let mut function = Function::new([]);
        for instruction in *body {
            function.instruction(instruction);
        }
        code.function(&function);
        known += 1;
    }
    for (name, kind, index) in exports {
        exported.export(name, *kind, *index);
    }
    let mut module = Module::new();
    module
        .section(&types)
        .section(&imports)
        .section(&declared)
        .section(&memories);
    module.section(&globals).section(&exported).section(&code);
    let mut module = module.finish();

    let contract = include_str!("../../../wit/plugin.wit");
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_str("plugin.wit", contract).expect("the contract parses");
    let package = resolve.push_str("guest.wit", wit).expect("the WIT parses");
    let world = resolve.select_world(&[package], None).expect("it has one world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8)
        .expect("the module takes the WIT");
    let mut encoder = wit_component::ComponentEncoder::default()
        .module(&module)
        .expect("the module is of the WIT");
    encoder.encode().expect("the component is sound")
}
