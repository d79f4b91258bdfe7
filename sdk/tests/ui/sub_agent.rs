//! Imported functions that a model cannot start. Each `//~` is followed by the text marked in that line, and by the
//! error message.
#![allow(unused)]

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(
    inline = r"
package demo:desk@0.1.0;
interface task { run: async func(question: string) -> result<string, string>; }
world desk {
  import demo:plain/task@0.1.0;
  import demo:output/task@0.1.0;
  import demo:now/task@0.1.0;
  import demo:without/task@0.1.0;
  import demo:bare/task@0.1.0;
  export task;
}
package demo:plain@0.1.0 {
  interface task { run: async func(input: option<option<string>>) -> result<string, string>; }
}
package demo:output@0.1.0 {
  interface task { run: async func(input: string) -> result<list<result<string>>, string>; }
}
package demo:now@0.1.0 {
  interface task { run: func(input: string) -> result<string, string>; }
}
package demo:without@0.1.0 {
  interface task { run: async func() -> result<string, string>; }
}
package demo:bare@0.1.0 {
  interface task { run: async func(input: string) -> string; }
}
"
);

async fn run(question: String) -> Result<String, String> {
    let prompt = Prompt::new(question);
    let prompt = prompt.sub_agent(plain::run); //~ `sub_agent` is not a task that a model can start
    let prompt = prompt.sub_agent(output::run); //~ `sub_agent` is not a task that a model can start
    let prompt = prompt.sub_agent(now::run); //~ `sub_agent` is not a task that a model can start
    let prompt = prompt.sub_agent(without::run); // another error of the compiler
    let prompt = prompt.sub_agent(bare::run); //~ `sub_agent` is not a task that a model can start
    Ok(String::new())
}

fn main() {}
