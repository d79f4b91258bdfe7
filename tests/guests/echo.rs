//! Returns its input: one record with a value of every kind.

agenthost_sdk::plugin!(
    inline = r#"
/// Returns what it gets.
package guests:echo@0.1.0;

interface task {
  use agenthost:plugin/types@0.1.0.{failure};

  /// One of three.
  enum colour { red, dark-green, blue }
  /// Any of three.
  flags access { read, write, run-as }
  record point { x: f64, y: f64 }
  record circle { centre: point, x: f64 }
  variant shape {
    /// No shape at all.
    nothing,
    circle(circle),
    polygon(list<point>),
    label(option<string>),
  }

  /// A value of every kind that a task can take and give.
  record everything {
    %bool: bool,
    %u8: u8,
    %u16: u16,
    %u32: u32,
    %u64: u64,
    %s8: s8,
    %s16: s16,
    %s32: s32,
    %s64: s64,
    %f32: f32,
    %f64: f64,
    %char: char,
    %string: string,
    bytes: list<u8>,
    strings: list<string>,
    nested-lists: list<list<u32>>,
    absent: option<string>,
    nested-option: option<option<u32>>,
    t: shape,
    colour: colour,
    access: access,
    pair: tuple<string, u32>,
    points: list<point>,
    outcome: result<u32, string>,
    no-payload: result,
    only-error: result<_, string>,
  }

  run: async func(input: everything) -> result<everything, failure>;
}

world echo {
  include agenthost:plugin/plugin@0.1.0;
  export task;
}
"#
);

async fn run(input: Everything) -> Result<Everything, Failure> {
    Ok(input)
}
