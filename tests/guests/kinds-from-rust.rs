//! Returns its input, with an interface written in Rust; `kinds` has the same, written in WIT.
#![forbid(unsafe_code)]

/// Returns its input: every kind of type that Rust and WIT both have.
#[agenthost_sdk::task(package = "guests:kinds@0.1.0")]
mod kinds {
    use agenthost_sdk::prelude::*;

    /// One of three.
    enum Colour {
        Red,
        /// Neither black nor green.
        DarkGreen,
        Blue,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Record {
        First,
        Second,
    }

    enum Level {
        Low,
        High,
    }

    impl Clone for Level {
        fn clone(&self) -> Self {
            match self {
                Self::Low => Self::Low,
                Self::High => Self::High,
            }
        }
    }

    /// On a plane.
    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Point {
        /// To the right.
        x: f64,
        y2: f64,
    }

    struct Circle {
        centre: Point,
        radius: f32,
    }

    enum Shape {
        /// No shape at all.
        Nothing,
        Circle(Circle),
        DottedLine(Vec<Point>),
        Label(Option<String>),
        Pair((String, u8)),
        Painted(Colour),
    }

    struct Numbers {
        a: u8,
        b: u16,
        c: u32,
        d: u64,
        e: i8,
        f: i16,
        g: i32,
        h: i64,
        i: f32,
        j: f64,
    }

    /// A value of every kind.
    ///
    /// It is long.
    struct Everything {
        /// Yes or no.
        bool: bool,
        numbers: Numbers,
        initial: char,
        text: String,
        bytes: Vec<u8>,
        strings: Vec<String>,
        nested_lists: Vec<Vec<u32>>,
        colours: Vec<Colour>,
        record: Record,
        level: Option<Level>,
        absent: Option<String>,
        nested_option: Option<Option<u32>>,
        shapes: Vec<self::Shape>,
        single: (Colour,),
        many: Vec<(String, u32, Option<bool>)>,
        outcome: Result<u32, String>,
        no_payload: Result<(), ()>,
        only_error: Result<(), Shape>,
        only_value: std::result::Result<Point, ()>,
        from: Option<llm::Media>,
        limits: Vec<Limit>,
        last: Option<agenthost_sdk::Failure>,
    }

    /// Items outside the signature may be of any type.
    struct Counted<'a>(std::collections::BTreeMap<&'a str, usize>);

    /// The same, or the failure that is in it.
    async fn run(mut input: Everything) -> Result<Everything, Failure> {
        let counted = Counted([("failures", usize::from(input.last.is_some()))].into());
        match input.last.take() {
            Some(failure) if counted.0.contains_key("failures") => Err(failure),
            _ => Ok(input),
        }
    }
}
