//! Failpoints: named places on the path of a run where a test injects a fault.
//!
//! `failpoint!("call.reserve")` marks a place. It is compiled only with the feature `failpoints`; in any other build
//! the macro expands to nothing. A test arms the process with a `Plan`: the *n*th place that is passed panics, fails or
//! cancels the run, and every other one does nothing. Because all places are counted in one sequence, a test can walk
//! through them until a run passes fewer than *n*, so a new place is covered as soon as it is added.
//!
//! Left out: scopes. A plan applies to the whole process, so a test that arms one runs in its own process.

/// Marks a place where a test can inject a fault.
///
/// - `failpoint!("name")` panics or cancels the run.
/// - `failpoint!("name", error)` can also return `Err(error)` from the function.
/// - `failpoint!(leak text)` records that something was not released.
/// - `failpoint!(await "name")` gives a cancellation time to drop the future here.
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

/// Marks a place where a test can inject a fault; expands to nothing without the feature `failpoints`.
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

    /// How many times to yield so that a canceled run can drop the future that waits at the place of the cancellation.
    const TURNS_TO_DROP: usize = 1_000;

    /// The fault to inject.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Fault {
        /// The place panics.
        Panic,
        /// The function returns an error. Places that cannot fail are not counted.
        Error,
        /// The run is canceled, and the future that waits there is dropped if possible.
        Cancel,
    }

    /// The fault that a process is armed with.
    pub struct Plan {
        /// The number of the place to fail, counted from 1; 0 for none.
        pub at: usize,
        /// If set, only places with this name are counted.
        pub name: Option<&'static str>,
        /// The fault to inject there.
        pub fault: Fault,
        /// Cancels the run.
        pub cancel: Box<dyn Fn() + Send>,
    }

    /// The places that a process has passed.
    #[derive(Debug, Default)]
    pub struct Passed {
        /// The names of the counted places, in order.
        pub names: Vec<&'static str>,
        /// The place where the fault was injected.
        pub hit: Option<&'static str>,
    }

    static STATE: Mutex<Option<(Plan, Passed)>> = Mutex::new(None);
    static LEAKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms the process, replacing any earlier plan.
    pub fn arm(plan: Plan) {
        *lock(&STATE) = Some((plan, Passed::default()));
    }

    /// Disarms the process and returns the places it has passed.
    pub fn disarm() -> Passed {
        lock(&STATE).take().map(|(_, passed)| passed).unwrap_or_default()
    }

    /// Returns the leaks recorded since the last call.
    pub fn leaked() -> Vec<String> {
        std::mem::take(&mut *lock(&LEAKED))
    }

    /// Records that something was not released.
    pub fn leak(what: String) {
        lock(&LEAKED).push(what);
    }

    /// Passes the place `name`. Returns the fault that the caller has to inject.
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
