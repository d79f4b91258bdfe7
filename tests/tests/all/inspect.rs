//! The page that a reviewer reads about a plugin.

use agenthost_tests::dummy;

use super::screens::{filters, screen};
use crate::{guest, machine};

const BELOW: &str = "package demo:below@0.1.0;
interface task { run: async func(input: string) -> string; }
world below { export task; }";

const ABOVE: &str = "package demo:above@0.2.0;
interface task {
  record question { text: string, most: option<u32> }
  run: async func(input: question) -> result<string, string>;
}
world above {
  include agenthost:plugin/plugin@0.1.0;
  import demo:below/task@0.1.0;
  export task;
}";

#[test]
fn the_page_begins_with_what_a_reviewer_decides_by() {
    let machine = machine();
    let bytes = dummy::component(&[BELOW, ABOVE]);
    machine.write("above.wasm", &bytes);
    let page = machine.run(["inspect", "above.wasm"]).stdout;
    let digest = agenthost::plugin::Digest::of(&bytes);
    let size = agenthost::limits::units::show_bytes(bytes.len() as u64);
    assert!(
        page.contains(&format!("\nsize       {size}\ndigest     {digest}\n")),
        "{page}"
    );
    let _filters = filters();
    insta::assert_snapshot!(screen(&machine, &["inspect", "above.wasm"]), @"
    plugin     demo:above@0.2.0
    may do     calls models; starts demo:below; nothing else
    models     any name (it does not say which)
    sub-agent  demo:below@0.1.0
    keeps back 20% of its limits, for its own calls
    imports    the contract; 1 sub-agent (--imports names all)
    licence    not stated
    source     not stated
    made with  wit-component [version]
    revision   not recorded
    size       [size]
    digest     sha256:[digest]
               SHA-256 of the file; compare it with `sha256sum` of a build of the same source with the same tools

    interface demo:above/task@0.2.0
      record question {
        text: string,
        most: option<u32>,
      }

      run: async func(input: question) -> result<string, string>;

      (no docs are embedded; those of a Rust plugin are when it uses the SDK's macro)
    ");

    let more = machine.run(["inspect", "above.wasm", "--imports"]).stdout;
    assert!(
        more.contains("\n  demo:below/task@0.1.0                  may start demo:below as a sub-agent\n"),
        "{more}"
    );
    assert!(!more.contains("\ninput schema\n"), "{more}");
    let most = machine.run(["inspect", "above.wasm", "-v"]).stdout;
    assert!(
        most.contains("\ninput schema\n{\n") && most.contains("\nimports\n"),
        "{most}"
    );
}

#[test]
fn a_built_plugin_says_what_its_author_says() {
    let machine = machine();
    let competitor = guest("competitor");
    let page = machine.run(["inspect", &competitor]).stdout;
    for line in [
        "plugin     demo:competitor@0.2.0\n",
        "about      Looks into one company: ",
        "may do     calls models; uses web-search of a provider if that is granted; nothing else\n",
        "tools      web-search (3 uses a call), run by a provider if you grant it\n",
        "asks for   calls 12, memory 32MiB, timeout 2m, tokens 400,000\n",
        "licence    Apache-2.0\n",
        "made with  agenthost-sdk ",
        "  /// One company to look into.\n",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    // The imports of every guest that uses Rust's standard library are one line.
    assert!(!page.contains("wasi:cli/"), "{page}");
    assert!(page.contains("inert WASI interfaces (--imports names all)\n"), "{page}");
    let document = machine.run(["inspect", &competitor, "--json"]).json(0);
    assert_eq!(document["sdk"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["manifest"]["license"], "Apache-2.0");
    assert_eq!(document["sub_agents"], serde_json::json!([]));
}
