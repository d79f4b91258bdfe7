//! Names that are words of Rust, in both routes, and names of one letter.

use agenthost_sdk::serde_json::{self, json};

mod from_wit {
    agenthost_sdk::plugin!(path = "tests/wit/words");

    async fn run(input: All) -> Result<All, Failure> {
        drop(gen_::run(gen_::Gen { gen_: String::new() }));
        Ok(input)
    }

    #[test]
    fn words_keep_their_names_in_json() {
        let cases = [Cases::Self_(1), Cases::Gen(2), Cases::Type(3)];
        let text = agenthost_sdk::serde_json::to_string(&cases).unwrap();
        assert_eq!(text, r#"[{"self":1},{"gen":2},{"type":3}]"#);
        let plain: Vec<Plain> = agenthost_sdk::serde_json::from_str(r#"["self", "gen", "macro-rules"]"#).unwrap();
        assert_eq!(plain, [Plain::Self_, Plain::Gen, Plain::MacroRules]);
        let text = agenthost_sdk::serde_json::to_string(&Gen { gen_: 1 }).unwrap();
        assert_eq!(text, r#"{"gen":1}"#);
    }
}

#[agenthost_sdk::task(package = "words:written@0.1.0")]
mod written {
    use agenthost_sdk::prelude::*;

    #[derive(Debug, PartialEq, Clone)]
    pub(super) enum Plain {
        As,
        Break,
        Const,
        Continue,
        Crate,
        Else,
        Enum,
        Extern,
        False,
        Fn,
        For,
        If,
        Impl,
        In,
        Let,
        Loop,
        Match,
        Mod,
        Move,
        Mut,
        Pub,
        Ref,
        Return,
        Self_,
        Static,
        Struct,
        Super,
        Trait,
        True,
        Type,
        Unsafe,
        Use,
        Where,
        While,
        Async,
        Await,
        Dyn,
        Abstract,
        Become,
        Box,
        Do,
        Final,
        Macro,
        Override,
        Priv,
        Typeof,
        Unsized,
        Virtual,
        Yield,
        Try,
        Gen,
        Union,
        Raw,
        Safe,
        Auto,
        Default,
        MacroRules,
    }

    #[derive(Debug, PartialEq, Clone)]
    pub(super) enum Cases {
        As(u8),
        Break(u8),
        Const(u8),
        Continue(u8),
        Crate(u8),
        Else(u8),
        Enum(u8),
        Extern(u8),
        False(u8),
        Fn(u8),
        For(u8),
        If(u8),
        Impl(u8),
        In(u8),
        Let(u8),
        Loop(u8),
        Match(u8),
        Mod(u8),
        Move(u8),
        Mut(u8),
        Pub(u8),
        Ref(u8),
        Return(u8),
        Self_(u8),
        Static(u8),
        Struct(u8),
        Super(u8),
        Trait(u8),
        True(u8),
        Type(u8),
        Unsafe(u8),
        Use(u8),
        Where(u8),
        While(u8),
        Async(u8),
        Await(u8),
        Dyn(u8),
        Abstract(u8),
        Become(u8),
        Box(u8),
        Do(u8),
        Final(u8),
        Macro(u8),
        Override(u8),
        Priv(u8),
        Typeof(u8),
        Unsized(u8),
        Virtual(u8),
        Yield(u8),
        Try(u8),
        Gen(u8),
        Union(u8),
        Raw(u8),
        Safe(u8),
        Auto(u8),
        Default(u8),
        MacroRules(u8),
    }

    #[derive(Debug, PartialEq, Clone)]
    pub(super) struct Fields {
        pub(super) as_: u8,
        pub(super) break_: u8,
        pub(super) const_: u8,
        pub(super) continue_: u8,
        pub(super) crate_: u8,
        pub(super) else_: u8,
        pub(super) enum_: u8,
        pub(super) extern_: u8,
        pub(super) false_: u8,
        pub(super) fn_: u8,
        pub(super) for_: u8,
        pub(super) if_: u8,
        pub(super) impl_: u8,
        pub(super) in_: u8,
        pub(super) let_: u8,
        pub(super) loop_: u8,
        pub(super) match_: u8,
        pub(super) mod_: u8,
        pub(super) move_: u8,
        pub(super) mut_: u8,
        pub(super) pub_: u8,
        pub(super) ref_: u8,
        pub(super) return_: u8,
        pub(super) self_: u8,
        pub(super) static_: u8,
        pub(super) struct_: u8,
        pub(super) super_: u8,
        pub(super) trait_: u8,
        pub(super) true_: u8,
        pub(super) type_: u8,
        pub(super) unsafe_: u8,
        pub(super) use_: u8,
        pub(super) where_: u8,
        pub(super) while_: u8,
        pub(super) async_: u8,
        pub(super) await_: u8,
        pub(super) dyn_: u8,
        pub(super) abstract_: u8,
        pub(super) become_: u8,
        pub(super) box_: u8,
        pub(super) do_: u8,
        pub(super) final_: u8,
        pub(super) macro_: u8,
        pub(super) override_: u8,
        pub(super) priv_: u8,
        pub(super) typeof_: u8,
        pub(super) unsized_: u8,
        pub(super) virtual_: u8,
        pub(super) yield_: u8,
        pub(super) try_: u8,
        pub(super) gen_: u8,
        pub(super) union: u8,
        pub(super) raw: u8,
        pub(super) safe: u8,
        pub(super) auto: u8,
        pub(super) default: u8,
        pub(super) macro_rules: u8,
    }

    pub(super) struct Gen {
        pub(super) fields: Fields,
        pub(super) cases: Vec<Cases>,
        pub(super) plain: Vec<Plain>,
    }

    pub(super) async fn run(gen_: Gen) -> Result<Gen, Failure> {
        Ok(gen_)
    }
}

#[test]
fn a_module_of_words_is_a_task() {
    let _ = written::run;
    let _ = (written::Plain::Self_, written::Cases::Gen(1));
}

mod letters {
    use agenthost_sdk::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct A {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct B {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct C {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct D {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct E {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct F {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct G {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct H {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct I {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct J {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct K {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct L {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct M {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct N {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct O {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct P {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct Q {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct R {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct S {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct T {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct U {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct V {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct W {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct X {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct Y {
        pub(super) value: u8,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct Z {
        pub(super) value: u8,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    pub(super) struct All {
        pub(super) a: A,
        pub(super) b: B,
        pub(super) c: C,
        pub(super) d: D,
        pub(super) e: E,
        pub(super) f: F,
        pub(super) g: G,
        pub(super) h: H,
        pub(super) i: I,
        pub(super) j: J,
        pub(super) k: K,
        pub(super) l: L,
        pub(super) m: M,
        pub(super) n: N,
        pub(super) o: O,
        pub(super) p: P,
        pub(super) q: Q,
        pub(super) r: R,
        pub(super) s: S,
        pub(super) t: T,
        pub(super) u: U,
        pub(super) v: V,
        pub(super) w: W,
        pub(super) x: X,
        pub(super) y: Y,
        pub(super) z: Z,
    }
}

#[test]
fn types_of_one_letter_have_the_derives() {
    let text = json!({"value": 1}).to_string();
    let (s, d) = (
        serde_json::from_str::<letters::S>(&text).unwrap(),
        serde_json::from_str::<letters::D>(&text).unwrap(),
    );
    assert_eq!((s.value, d.value), (1, 1));
    assert_eq!(serde_json::to_string(&s).unwrap(), r#"{"value":1}"#);
    let schema = agenthost_sdk::schemars::schema_for!(letters::All);
    let schema = serde_json::to_value(&schema).unwrap();
    assert_eq!(schema["$defs"].as_object().unwrap().len(), 26, "{schema}");
    assert_eq!(schema["$defs"]["S"]["type"], "object");
}
