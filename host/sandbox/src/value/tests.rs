//! Types for tests come from WIT text: as `wit-parser` reads it, and as wasmtime reads it from the package in binary
//! form, which needs no code and no compiler.

mod bounds;
mod json;
mod random;
mod schema;
mod signature;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Type};
use wasmtime::{Config, Engine};
use wit_parser::{Function, Resolve};

/// One function `f` in both worlds.
struct Loaded {
    resolve: Resolve,
    function: Function,
    params: Vec<Type>,
}

fn engine() -> Engine {
    let mut config = Config::new();
    config.wasm_component_model_map(true);
    config.wasm_component_model_fixed_length_lists(true);
    Engine::new(&config).expect("an engine")
}

fn resolve(text: &str) -> (Resolve, Function) {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", text).expect("valid WIT");
    let interface = resolve.packages[package].interfaces["i"];
    let function = resolve.interfaces[interface].functions["f"].clone();
    (resolve, function)
}

/// An interface `i` with `items`, one of which is the function `f`.
fn load(items: &str) -> Loaded {
    let mut resolve = Resolve::default();
    let text = format!("package t:t;\ninterface i {{\n{items}\n}}\n");
    let package = resolve
        .push_str("test.wit", &text)
        .unwrap_or_else(|error| panic!("{error:?}"));
    let interface = resolve.packages[package].interfaces["i"];
    let function = resolve.interfaces[interface].functions["f"].clone();

    let bytes = wit_component::encode(&resolve, package).expect("a binary package");
    let engine = engine();
    let component = Component::new(&engine, bytes).expect("a loadable package");
    let ty = component.component_type();
    let Some(ComponentItem::Component(package)) = ty.get_export(&engine, "i").map(|item| item.ty) else {
        panic!("no interface");
    };
    let Some(ComponentItem::ComponentInstance(interface)) = package.get_export(&engine, "t:t/i").map(|item| item.ty)
    else {
        panic!("no instance");
    };
    let Some(ComponentItem::ComponentFunc(func)) = interface.get_export(&engine, "f").map(|item| item.ty) else {
        panic!("no function");
    };
    let params = func.params().map(|(_, ty)| ty).collect();
    Loaded {
        resolve,
        function,
        params,
    }
}

/// The type `ty`, which may use `items`.
fn typed(items: &str, ty: &str) -> Type {
    load(&format!("{items}\nf: func(x: {ty});")).params.remove(0)
}
