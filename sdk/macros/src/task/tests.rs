//! The WIT text of modules, as an author would have written it. Refused modules are in the SDK's own tests, which run
//! the compiler.

use std::collections::BTreeMap;

use super::read::{Shared, read};
use super::{package_name, wit};

fn shared(module: &str, interface: &str, types: &[(&str, &str)]) -> Shared {
    let types = types.iter().map(|(rust, wit)| ((*rust).to_owned(), (*wit).to_owned()));
    Shared {
        module: module.to_owned(),
        interface: interface.to_owned(),
        types: types.collect::<BTreeMap<_, _>>(),
    }
}

fn text(module: &str, imports: &[&str]) -> String {
    let module: syn::ItemMod = syn::parse_str(module).unwrap();
    let known = [
        shared(
            "",
            "agenthost:plugin/types@0.1.0",
            &[("Failure", "failure"), ("Limit", "limit")],
        ),
        shared(
            "llm",
            "agenthost:plugin/llm@0.1.0",
            &[("Media", "media"), ("Role", "role")],
        ),
        shared(
            "competitor",
            "demo:competitor/task@0.1.0",
            &[("Report", "report"), ("Topic", "topic")],
        ),
        shared("far_off", "demo:far-off/task@2.0.0", &[("Report", "report")]),
    ];
    let (_, items) = module.content.unwrap();
    let task = read(&module.ident, &module.attrs, &items, &known).unwrap();
    let imports: Vec<String> = imports.iter().map(|import| (*import).to_owned()).collect();
    wit::text("demo:all-of-it@0.1.0", &imports, &task)
}

#[test]
fn a_module_with_every_type() {
    let module = r#"
        /// All of it.
        mod all {
            //! And more.
            use agenthost_sdk::prelude::*;

            /// In the module's order, which is not that of the first use.
            #[derive(Clone)]
            pub enum List { First, SecondOne }

            #[doc = " Takes\n two lines."]
            struct Input {
                /// A keyword of WIT.
                record: bool,
                /**
                 * In a block.
                 */
                bytes: Vec<u8>,
                numbers: (i8, i16, i32, i64, u8, u16, u32, u64, f32, f64),
                letter: char,
                maybe: Option<Option<String>>,
                results: Vec<(Result<u8, String>, Result<u8, ()>, Result<(), String>, Result<(), ()>)>,
                list: self::List,
                shape: Shape,
                spelled_out: ::std::option::Option<std::string::String>,
                limit: agenthost_sdk::Limit,
                media: agenthost_sdk::llm::Media,
            }

            struct NotPartOfIt(std::collections::HashMap<usize, Box<str>>);

            enum Shape {
                Nothing,
                /// One value.
                Lists(Vec<List>),
                Result(Result<(), Failure>),
            }

            /// Does it.
            ///
            /// At last.
            async fn run(r#static: Input) -> Result<Shape, Failure> { todo!() }
        }
    "#;
    let expected = r"/// All of it.
/// And more.
package demo:all-of-it@0.1.0;

interface task {
  use agenthost:plugin/llm@0.1.0.{media};
  use agenthost:plugin/types@0.1.0.{failure, limit};

  /// In the module's order, which is not that of the first use.
  enum %list {
    first,
    second-one,
  }

  /// Takes
  /// two lines.
  record input {
    /// A keyword of WIT.
    %record: bool,
    /// In a block.
    bytes: list<u8>,
    numbers: tuple<s8, s16, s32, s64, u8, u16, u32, u64, f32, f64>,
    letter: char,
    maybe: option<option<string>>,
    results: list<tuple<result<u8, string>, result<u8>, result<_, string>, result>>,
    %list: %list,
    shape: shape,
    spelled-out: option<string>,
    limit: limit,
    media: media,
  }

  variant shape {
    nothing,
    /// One value.
    lists(list<%list>),
    %result(result<_, failure>),
  }

  /// Does it.
  ///
  /// At last.
  run: async func(input: input) -> result<shape, failure>;
}

world all-of-it {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
";
    assert_eq!(text(module, &[]), expected);
}

#[test]
fn types_of_other_tasks_are_used_by_a_name_that_is_free() {
    let module = r"
        mod all {
            struct Topic { reports: Vec<competitor::Report>, far: far_off::Report, topic: competitor::Topic }
            fn run(_: Topic) -> Result<Vec<far_off::Report>, String> { todo!() }
        }
    ";
    let expected = r"package demo:all-of-it@0.1.0;

interface task {
  use demo:competitor/task@0.1.0.{report, topic as competitor-topic};
  use demo:far-off/task@2.0.0.{report as far-off-report};

  record topic {
    reports: list<report>,
    far: far-off-report,
    topic: competitor-topic,
  }

  run: func(input: topic) -> result<list<far-off-report>, string>;
}

world all-of-it {
  include agenthost:plugin/plugin@0.1.0;
  import demo:competitor/task@0.1.0;
  export task;
}
";
    assert_eq!(text(module, &["demo:competitor/task@0.1.0"]), expected);
}

#[test]
fn an_authors_failure_is_the_authors() {
    let module = "mod all { enum Failure { Odd } async fn run(n: u8) -> Result<u8, Failure> { Ok(n) } }";
    let text = text(module, &[]);
    assert!(text.contains("  enum failure {\n    odd,\n  }\n"), "{text}");
    assert!(!text.contains("use "), "{text}");
}

#[test]
fn a_package_has_a_namespace_and_a_name_and_a_version() {
    assert_eq!(
        package_name("demo:far-off@1.2.3").unwrap().to_string(),
        "demo:far-off@1.2.3"
    );
    assert!(package_name("demo:x").unwrap().version.is_none());
    for wrong in [
        "x@0.1.0",
        "demo:X_y@0.1.0",
        "demo:x@1",
        "demo:",
        ":x@0.1.0",
        "demo:x;y@0.1.0",
    ] {
        assert!(package_name(wrong).is_none(), "{wrong}");
    }
}
