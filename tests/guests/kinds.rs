//! Returns its input, with an interface written in WIT; `kinds-from-rust` has the same, written in Rust.

agenthost_sdk::plugin!(
    inline = r#"
/// Returns its input: every kind of type that Rust and WIT both have.
package guests:kinds@0.1.0;

interface task {
  use agenthost:plugin/llm@0.1.0.{media};
  use agenthost:plugin/types@0.1.0.{failure, limit};

  /// One of three.
  enum colour {
    red,
    /// Neither black nor green.
    dark-green,
    blue,
  }

  enum %record {
    first,
    second,
  }

  enum level {
    low,
    high,
  }

  /// On a plane.
  record point {
    /// To the right.
    x: f64,
    y2: f64,
  }

  record circle {
    centre: point,
    radius: f32,
  }

  variant shape {
    /// No shape at all.
    nothing,
    circle(circle),
    dotted-line(list<point>),
    label(option<string>),
    pair(tuple<string, u8>),
    painted(colour),
  }

  record numbers {
    a: u8,
    b: u16,
    c: u32,
    d: u64,
    e: s8,
    f: s16,
    g: s32,
    h: s64,
    i: f32,
    j: f64,
  }

  /// A value of every kind.
  ///
  /// It is long.
  record everything {
    /// Yes or no.
    %bool: bool,
    numbers: numbers,
    initial: char,
    text: string,
    bytes: list<u8>,
    strings: list<string>,
    nested-lists: list<list<u32>>,
    colours: list<colour>,
    %record: %record,
    level: option<level>,
    absent: option<string>,
    nested-option: option<option<u32>>,
    shapes: list<shape>,
    single: tuple<colour>,
    many: list<tuple<string, u32, option<bool>>>,
    outcome: result<u32, string>,
    no-payload: result,
    only-error: result<_, shape>,
    only-value: result<point>,
    %from: option<media>,
    limits: list<limit>,
    last: option<failure>,
  }

  /// The same, or the failure that is in it.
  run: async func(input: everything) -> result<everything, failure>;
}

world kinds {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Everything) -> Result<Everything, Failure> {
    match input.last {
        Some(failure) => Err(failure),
        None => Ok(input),
    }
}
