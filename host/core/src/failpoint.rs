//! Failpoints: named places on the path of a run at which a test makes something go wrong.
//!
//! `failpoint!("call.reserve")` marks a place. It is compiled in with the feature `failpoints` alone; in any other build
//! the macro expands to nothing. A test arms the process with a `Plan`: the *n*th place that is passed panics, fails or
//! cancels the run, and every other one does nothing. Counting all places in one sequence, instead of naming each, lets a
//! test walk them one by one until a run passes fewer than *n*, so a new place is tested from the day it is added.
//!
//! Left out: scopes. A plan holds for the whole process, so a test that arms one runs in a process of its own.

/// A place at which a test makes something go wrong.
///
/// - `failpoint!("name")` panics or cancels the run.
/// - `failpoint!("name", error)` also returns `Err(error)` from the function.
/// - `failpoint!(leak text)` notes that something was not given back.
/// - `failpoint!(await "name")` gives a cancel the time to drop the future here.
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        let _ = $crate::failpoint::pass($name, false);
    };
    ($name:literal, $error:expr) => {
        if $crate::failpoint::pass($name, true) == Some($crate::failpoint::Fault::Error) {
            return Err($error);
        }
    };
    (leak $what:expr) => {
        $crate::failpoint::leak($what);
    };
    (await $name:literal) => {
        $crate::failpoint::wait($name).await;
    };
}

/// A place at which a test makes something go wrong, in a build without the feature `failpoints`: nothing.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! failpoint {
    ($($place:tt)*) => {};
}

#[cfg(feature = "failpoints")]
pub use self::armed::{Fault, Passed, Plan, arm, disarm, leaked};
#[cfg(feature = "failpoints")]
pub use self::armed::{leak, pass, wait};

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// How often others are let go on, so that a cancelled run can drop what waits at the place where it was cancelled.
    const TURNS_TO_DROP: usize = 1_000;

    /// What happens at a place.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Fault {
        /// The place panics.
        Panic,
        /// The function fails. Places that cannot fail do not count.
        Error,
        /// The run is cancelled, and what waits there is dropped if it can be.
        Cancel,
    }

    /// What a process is armed with.
    pub struct Plan {
        /// The place that it concerns, counted from 1; 0 for none.
        pub at: usize,
        /// Only places of this name count; all do if it is `None`.
        pub name: Option<&'static str>,
        /// What happens there.
        pub fault: Fault,
        /// Cancels the run.
        pub cancel: Box<dyn Fn() + Send>,
    }

    /// What a process has passed.
    #[derive(Debug, Default)]
    pub struct Passed {
        /// The names of the places that counted, in order.
        pub names: Vec<&'static str>,
        /// The place at which something went wrong.
        pub hit: Option<&'static str>,
    }

    static STATE: Mutex<Option<(Plan, Passed)>> = Mutex::new(None);
    static LEAKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms the process, instead of what it was armed with before.
    pub fn arm(plan: Plan) {
        *lock(&STATE) = Some((plan, Passed::default()));
    }

    /// Disarms the process and returns what it has passed.
    pub fn disarm() -> Passed {
        lock(&STATE).take().map(|(_, passed)| passed).unwrap_or_default()
    }

    /// Returns what was not given back when its owner ended, since this was last asked.
    pub fn leaked() -> Vec<String> {
        std::mem::take(&mut *lock(&LEAKED))
    }

    /// Notes that something was not given back.
    pub fn leak(what: String) {
        lock(&LEAKED).push(what);
    }

    /// Passes the place `name`. Returns the fault that the caller has to bring about.
    pub fn pass(name: &'static str, fails: bool) -> Option<Fault> {
        let fault = {
            let mut state = lock(&STATE);
            let (plan, passed) = state.as_mut()?;
            if plan.name.is_some_and(|wanted| wanted != name) || (plan.fault == Fault::Error && !fails) {
                return None;
            }
            passed.names.push(name);
            if passed.names.len() != plan.at {
                return None;
            }
            passed.hit = Some(name);
            if plan.fault == Fault::Cancel {
                (plan.cancel)();
            }
            plan.fault
        };
        if fault == Fault::Panic {
            #[expect(clippy::panic, reason = "what it is for, and in no build of the product")]
            std::panic::panic_any(format!("failpoint {name}"));
        }
        Some(fault)
    }

    /// Passes the place `name` in a future.
    pub async fn wait(name: &'static str) {
        if pass(name, false) == Some(Fault::Cancel) {
            for _ in 0..TURNS_TO_DROP {
                tokio::task::yield_now().await;
            }
        }
    }
}
