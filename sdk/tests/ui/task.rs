//! Modules that `task` refuses. Each `//~` is followed by the text marked in that line, and by the error message.
#![allow(unused)]

use agenthost_sdk::prelude::*;
use agenthost_sdk::task;

#[task]
mod types {
    use super::*;
    use std::collections::{BTreeMap, HashMap, HashSet};

    type Names = Vec<String>;
    union Bits {
        bits: u32,
    }

    struct Input {
        map: HashMap<String, Vec<u8>>, //~ `HashMap<String, Vec<u8>>` a task cannot take or give `HashMap<String, Vec<u8>>`: use `Vec<(String, Vec<u8>)>`
        sorted: std::collections::BTreeMap<u8, u8>, //~ `std::collections::BTreeMap<u8, u8>` a task cannot take or give `BTreeMap<u8, u8>`: use `Vec<(u8, u8)>`
        set: Option<HashSet<String>>, //~ `HashSet<String>` a task cannot take or give `HashSet<String>`: use `Vec<String>`
        size: usize, //~ `usize` a task cannot take or give `usize`: use `u32` or `u64`
        offset: isize, //~ `isize` a task cannot take or give `isize`: use `i32` or `i64`
        huge: u128, //~ `u128` a task cannot take or give `u128`: use 64 bits, or a `String` of digits
        name: &'static str, //~ `&'static str` a task cannot take or give a `&str`: use `String`
        slice: &'static [u8], //~ `&'static [u8]` a task cannot take or give a slice: use `Vec<u8>`
        array: Vec<[u8; 4]>, //~ `[u8; 4]` a task cannot take or give an array: use `Vec<u8>`
        boxed: Box<Inner>, //~ `Box<Inner>` a task cannot take or give `Box<Inner>`: use `Inner`
        function: fn(u8) -> u8, //~ `fn(u8) -> u8` a task cannot take or give a function: use data, such as an enum of what can be done
        object: Box<dyn Send>, //~ `Box<dyn Send>` a task cannot take or give a trait's type: use an enum of the types that it can be
        unit: (), //~ `()` `()` is a value in WIT only inside a `Result`: leave it out, or use `bool`
        path: std::path::PathBuf, //~ `std::path::PathBuf` a task cannot take or give `PathBuf`: use `String`
        wait: std::time::Duration, //~ `std::time::Duration` a task cannot take or give `Duration`: use `u64`, with the unit in the name, as in `wait_ms`
        names: Names, //~ `Names` `Names` is an alias, which WIT does not see: write the type itself, or make it a struct
        bits: Bits, //~ `Bits` `Bits` is not a struct or an enum: make it one
        outside: Outside, //~ `Outside` `Outside` is not a type that a task can take or return: define a struct or enum of that name in this module (an alias or a `use` is not enough), or use a plain type of Rust, `Failure`, `Limit`, or a type of an imported task, as in `competitor::Report`
        above: super::Outside, //~ `super::Outside` `super::Outside` is not a type that a task can take or return: define a struct or enum of that name in this module (an alias or a `use` is not enough), or use a plain type of Rust, `Failure`, `Limit`, or a type of an imported task, as in `competitor::Report`
    }

    struct Inner {
        fine: bool,
    }

    async fn run(input: Input) -> Result<Vec<usize>, Failure> { //~ `usize` a task cannot take or give `usize`: use `u32` or `u64`
        loop {}
    }
}

struct Outside {
    value: u8,
}

#[task]
mod shapes {
    use super::*;

    struct Unit; //~ `Unit` `Unit` has no named fields, and WIT's records have: write `struct Unit { value: … }`
    struct Pair(u8, u8); //~ `Pair` `Pair` has no named fields, and WIT's records have: write `struct Pair { value: … }`
    struct Empty {} //~ `Empty` `Empty` has no field, and WIT's records have one at least
    enum Never {} //~ `Never` `Never` has no case, and WIT's enums have one at least
    struct Generic<T> { //~ `T` WIT has no generic types: write one for each type that is needed
        value: Vec<T>,
    }
    struct Node {
        children: Vec<Node>, //~ `Node` `Node` contains itself, and WIT has no recursive types: use a `Vec` of all entries that name each other by index
    }
    enum Case {
        Fields { x: u8, y: u8 }, //~ `{ x: u8, y: u8 }` a case holds one value at most, and no fields: make them a struct, as in `Fields(FieldsFields)`
        Several(u8, u8), //~ `(u8, u8)` a case holds one value at most: use a tuple, as in `Several((…, …))`, or a struct
        Parentheses(), //~ `()` a case without a value has no parentheses: write `Parentheses`
        #[cfg(unix)] //~ `#[cfg(unix)]` a task is the same in every build: no `cfg` here
        Unix,
    }
    enum Numbered {
        One = 1, //~ `1` WIT's enums have no numbers: leave the discriminant out
    }

    struct Input {
        a: Unit,
        b: Pair,
        c: Empty,
        d: Never,
        e: Generic<u8>,
        f: Node,
        g: Case,
        h: Numbered,
    }

    fn run(input: Input) -> Result<(), Failure> {
        Ok(())
    }
}

#[task]
mod names {
    use super::*;

    struct HTTPError { //~ `HTTPError` `HTTPError` does not come back from WIT, where it is `http-error`: call it `HttpError`
        code: u16,
    }
    struct Run { //~ `Run` `Run` is reserved: it is the function `run`, for WIT; call the type something else
        r#type: u8, //~ `r#type` `r#type` does not come back from WIT, where it is `type`: call it `type_`
    }
    struct Option { //~ `Option` `Option` is reserved: it is Rust's own type; call the type something else
        value: u8,
    }
    enum Case {
        Größe, //~ `Größe` `Größe` has no name in WIT: use the letters a to z and digits, a letter first
        GPT, //~ `GPT` `GPT` does not come back from WIT, where it is `gpt`: call it `Gpt`
    }

    struct Input {
        _hidden: u8, //~ `_hidden` `_hidden` does not come back from WIT, where it is `hidden`: call it `hidden`
        camelCase: u8, //~ `camelCase` `camelCase` does not come back from WIT, where it is `camel-case`: call it `camel_case`
        r#match: u8, //~ `r#match` `r#match` does not come back from WIT, where it is `match`: call it `match_`
        a: HTTPError,
        b: Run,
        c: Option,
        d: Case,
    }

    fn run(input: Input) -> Result<(), Failure> {
        Ok(())
    }
}

#[task]
mod missing {} //~ `missing` the module has no function `run`: add `async fn run(input: Input) -> Result<Output, Failure>` with types of your own

#[task]
mod none {
    fn run() -> Result<(), super::Failure> { //~ `()` `run` takes one input, as in `run(input: Input)`
        Ok(())
    }
}

#[task]
mod several {
    fn run(first: u8, second: u8) -> Result<(), super::Failure> { //~ `second: u8` `run` takes one input: put what it needs into one struct
        Ok(())
    }
}

#[task]
mod silent {
    async fn run(input: u8) {} //~ `run` `run` returns `Result<Output, Failure>`, or a `Result` with an error type of your own
}

#[task]
mod plain {
    async fn run(input: u8) -> u8 { //~ `u8` `run` returns `Result<Output, Failure>`, or a `Result` with an error type of your own
        input
    }
}

#[task(name = "x")] //~ `name` unknown argument `name`: `task` takes `package = "demo:competitor@0.1.0"`, `imports("demo:compare@0.1.0")`, and `path = "wit"` or `inline = "package …"`
mod argument {}

#[task(package = "Demo:x@1")] //~ `"Demo:x@1"` `Demo:x@1` is not a WIT package with a version: name it `package = "namespace:name@0.1.0"`, in lower-case words with `-` between them
mod package {}

#[task(path = "tests/wit/forms", imports("forms:helper@9.0.0"))] //~ `"forms:helper@9.0.0"` no package `forms:helper@9.0.0` in tests/wit/forms/deps, which has forms:helper@0.2.0; the sub-agent is of another version: name `forms:helper@0.2.0` here
mod import {}

#[task(path = "tests/wit/forms", imports("forms:helpers@0.2.0"))] //~ `"forms:helpers@0.2.0"` no package `forms:helpers@0.2.0` in tests/wit/forms/deps, which has forms:helper@0.2.0
mod undeclared {}

#[task]
struct NoModule; //~ `struct NoModule;` `task` stands on a module: `#[agenthost_sdk::task] mod greeter { … }`

fn main() {}
