//! The allowance: limits on everything that all runs of a user, or of a user in one project, use in a day or a month.
//!
//! There are two books: one for the user, limited by `[allowance]` of the operator's own file, and one for the project,
//! limited by that of the project's file. Each is a small JSON file in the user's state directory, replaced as a whole
//! under a lock. A request takes its worst case from its books before it is sent, and gives the rest back once its use is
//! known. If a process dies, what it took for requests that it had not sent is free again for the next process that
//! looks; the requests that it had sent may be billed and stay counted at their worst case. Days and months are those of
//! UTC.
//!
//! A request that does not fit waits while live processes may give back enough; otherwise it is refused. Replies made
//! up on this machine count nothing. A replay sends nothing and does not look at the books.

mod file;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

pub(crate) use self::file::Now;
use self::file::{Book, BookFile, GivenBack, Holder, LockedBook, Taken};
use agenthost_config::{AllowanceConfig, Config};
use agenthost_core::date;
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::ledger::{Stopped, Used};
use agenthost_core::limits::{LimitKind, LimitOwner, Usd};

/// The folder of the state directory with the books.
const FOLDER: &str = "allowance";
/// The time between two looks at the books while a request waits for other processes.
const LOOK: Duration = Duration::from_millis(200);

/// One setting of `[allowance]` and how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllowanceStatus {
    /// The key, such as `cost-per-day`.
    pub key: &'static str,
    /// `true` for the allowance of the project's file.
    pub project: bool,
    /// The kind of the amounts: tokens or cost.
    pub limit: LimitKind,
    /// The most that may be used, in tokens or pico-dollars.
    pub most: u64,
    /// The amount used in this day or month, with what requests in flight may use.
    pub used: u64,
    /// The time at which the next day or month begins.
    pub renewed: SystemTime,
}

impl AllowanceStatus {
    /// Formats an amount of this setting for people.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let config = agenthost::Config::builtin()?;
    /// let now = std::time::SystemTime::now();
    /// for status in agenthost::allowance::status(&config, dir.path(), now)? {
    ///     println!("{}: {} of {}", status.key, status.shown(status.used), status.shown(status.most));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn shown(&self, amount: u64) -> String {
        match self.limit {
            LimitKind::Cost => Usd::from_pico(amount).to_string(),
            _ => amount.to_string(),
        }
    }
}

/// Returns every setting of `[allowance]` that applies, with its use. Changes nothing.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let config = agenthost::Config::builtin()?;
/// let now = std::time::SystemTime::now();
/// assert!(agenthost::allowance::status(&config, dir.path(), now)?.is_empty(), "none is set");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ErrorClass::Host`](crate::ErrorClass::Host) if a book cannot be read.
pub fn status(config: &Config, state: &Path, now: SystemTime) -> Result<Vec<AllowanceStatus>> {
    let mut all = Vec::new();
    for limits in books(config, state) {
        let mut book = BookFile::new(&limits.path).read(now)?;
        book.forget_gone();
        all.extend(limits.statuses(&book, now));
    }
    Ok(all)
}

/// Returns the time at which the allowance `key`, such as `cost-per-day`, begins anew: the next midnight or the first
/// day of the next month, in UTC.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// let january_31 = SystemTime::UNIX_EPOCH + Duration::from_secs(30 * 86_400 + 7);
/// let february = SystemTime::UNIX_EPOCH + Duration::from_secs(31 * 86_400);
/// assert_eq!(agenthost::allowance::renewed("cost-per-day", january_31), february);
/// assert_eq!(agenthost::allowance::renewed("tokens-per-month", SystemTime::UNIX_EPOCH), february);
/// ```
pub fn renewed(key: &str, now: SystemTime) -> SystemTime {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let next = match key.ends_with("month") {
        true => date::next_month(now),
        false => date::next_day(now),
    };
    SystemTime::UNIX_EPOCH + Duration::from_millis(next)
}

/// One book with its limits.
struct Limited {
    path: PathBuf,
    project: bool,
    limits: AllowanceConfig,
}

impl Limited {
    fn statuses(&self, book: &Book, now: SystemTime) -> Vec<AllowanceStatus> {
        let cost = |most: Option<Usd>| most.map(Usd::pico);
        let (day, month, limits) = (&book.day, &book.month, &self.limits);
        let all = [
            ("tokens-per-day", LimitKind::Tokens, limits.tokens_per_day, day.tokens),
            ("cost-per-day", LimitKind::Cost, cost(limits.cost_per_day), day.cost),
            (
                "tokens-per-month",
                LimitKind::Tokens,
                limits.tokens_per_month,
                month.tokens,
            ),
            (
                "cost-per-month",
                LimitKind::Cost,
                cost(limits.cost_per_month),
                month.cost,
            ),
        ];
        let status = |(key, limit, most, used): (_, _, Option<u64>, _)| {
            Some(AllowanceStatus {
                key,
                project: self.project,
                limit,
                most: most?,
                used,
                renewed: renewed(key, now),
            })
        };
        all.into_iter().filter_map(status).collect()
    }
}

/// Returns the books that apply: the user's first.
fn books(config: &Config, state: &Path) -> Vec<Limited> {
    let dir = state.join(FOLDER);
    let mut books = Vec::new();
    let mut add = |name: String, project, limits: &AllowanceConfig| {
        if *limits != AllowanceConfig::default() {
            books.push(Limited {
                path: dir.join(name),
                project,
                limits: limits.clone(),
            });
        }
    };
    add("user.json".to_owned(), false, config.user_allowance());
    if let Some(file) = config.project_file() {
        let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let digest = Sha256::digest(file.as_os_str().as_encoded_bytes());
        let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        add(format!("project-{digest}.json"), true, config.project_allowance());
    }
    books
}

/// The allowances of a host.
pub(crate) struct Allowances {
    books: Vec<Limited>,
    now: Now,
    holder: Holder,
    /// Held by the one thread of this host that waits for the locks of the books.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// What is to be given back by the next access.
    back: Mutex<Vec<(GivenBack, Arc<AtomicBool>)>>,
    /// `true` if a thread is about to give back.
    flushing: AtomicBool,
    changed: Notify,
}

/// What can still be taken once everything in flight has settled.
pub(crate) struct AllowanceRoom {
    pub(crate) tokens: u64,
    pub(crate) cost: Usd,
    /// The settings that leave the least tokens and the least money.
    tightest: [Option<AllowanceStatus>; 2],
}

impl AllowanceRoom {
    /// Returns the setting that leaves the least of this.
    pub(crate) fn stopped(&self, limit: LimitKind) -> Option<Stopped> {
        let [tokens, cost] = &self.tightest;
        let status = if limit == LimitKind::Cost { cost } else { tokens }.as_ref()?;
        Some(Stopped {
            limit,
            owner: Some(LimitOwner::Allowance {
                key: status.key.to_owned(),
                project: status.project,
            }),
            most: status.most,
        })
    }
}

impl Allowances {
    /// Returns the allowances that `config` sets; `None` if it sets none.
    pub(crate) fn new(config: &Config, state: Option<&Path>, now: Now) -> Result<Option<Arc<Self>>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let books = books(config, state.unwrap_or(Path::new("")));
        if books.is_empty() {
            return Ok(None);
        }
        if state.is_none() {
            return Err(
                Error::config("[allowance] is set, and there is no state directory to count in")
                    .with_hint("Set HOME or XDG_STATE_HOME; a program calls `HostBuilder::state_dir`."),
            );
        }
        Ok(Some(Arc::new(Self {
            books,
            now,
            holder: Holder::new(NEXT.fetch_add(1, Ordering::Relaxed)),
            turn: Arc::default(),
            back: Mutex::default(),
            flushing: AtomicBool::new(false),
            changed: Notify::new(),
        })))
    }

    /// Returns whether money is limited, so that a model without a price cannot be called.
    pub(crate) fn limits_cost(&self) -> bool {
        let limits = |book: &Limited| book.limits.cost_per_day.is_some() || book.limits.cost_per_month.is_some();
        self.books.iter().any(limits)
    }

    /// Checks that the books can be read.
    pub(crate) fn check(&self) -> Result<()> {
        let now = (self.now)();
        self.books
            .iter()
            .try_for_each(|book| BookFile::new(&book.path).read(now).map(drop))
    }

    /// Returns what can still be taken once everything in flight has settled.
    pub(crate) async fn room(self: &Arc<Self>) -> Result<AllowanceRoom> {
        self.blocking(|this| {
            let mut room = AllowanceRoom {
                tokens: u64::MAX,
                cost: Usd::from_pico(u64::MAX),
                tightest: [None, None],
            };
            let now = (this.now)();
            for book in &this.books {
                let settled = BookFile::new(&book.path).read(now)?.settled();
                for status in book.statuses(&settled, now) {
                    let left = status.most.saturating_sub(status.used);
                    let [tokens, cost] = &mut room.tightest;
                    match status.limit {
                        LimitKind::Cost if left < room.cost.pico() => {
                            (room.cost, *cost) = (Usd::from_pico(left), Some(status));
                        }
                        LimitKind::Tokens if left < room.tokens => (room.tokens, *tokens) = (left, Some(status)),
                        _ => {}
                    }
                }
            }
            Ok(room)
        })
        .await
    }

    /// Takes the worst case of a request from all books. `None` if it does not fit at the moment.
    pub(crate) async fn take(self: &Arc<Self>, worst: &Used) -> Result<Option<AllowanceHold>> {
        let amount = Taken::of(worst);
        // The hold is made on the other thread, so that it is given back if nobody waits for it any more.
        self.in_turn(move |this| {
            let hold = |at| AllowanceHold {
                allowances: Arc::clone(this),
                at,
                sent: Arc::default(),
                used: Taken::default(),
            };
            Ok(this.take_now(amount)?.map(hold))
        })
        .await
    }

    /// Waits until something may have been given back, here or by another process.
    pub(crate) async fn wait(&self) {
        let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
    }

    /// Gives back what is known to be unused, so that other processes can take it.
    pub(crate) async fn flush(self: &Arc<Self>) {
        if let Err(error) = self.in_turn(|this| this.give_back()).await {
            not_given_back(&error);
        }
    }

    /// Does work that waits for the locks of the books. Others of this host wait without a thread meanwhile. The work is
    /// done even if nobody waits for it any more.
    async fn in_turn<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.blocking(move |this| {
            let _turn = turn;
            work(this)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let this = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&this)).await;
        done.unwrap_or_else(|error| Err(Error::host(format!("the allowance cannot be counted: {error}"))))
    }

    /// Locks all books, always in the same order, and gives back what is to be given back.
    fn open(&self) -> Result<Vec<(&Limited, LockedBook)>> {
        let mut open = Vec::with_capacity(self.books.len());
        for limited in &self.books {
            open.push((limited, BookFile::new(&limited.path).lock(&self.now)?));
        }
        // A panic under this lock leaves the data consistent.
        let mut back = self.back.lock().unwrap_or_else(PoisonError::into_inner);
        for (back, sent) in std::mem::take(&mut *back) {
            for (_, locked) in &mut open {
                locked.book.give_back(&self.holder, &back, sent.load(Ordering::SeqCst));
            }
        }
        Ok(open)
    }

    fn take_now(&self, amount: Taken) -> Result<Option<Taken>> {
        let mut open = self.open()?;
        let now = (self.now)();
        let fits = open.iter().all(|(limited, locked)| {
            let mut book = locked.book.clone();
            book.take(&self.holder, amount);
            let mut statuses = limited.statuses(&book, now).into_iter();
            statuses.all(|status| status.used <= status.most)
        });
        let mut at = None;
        for (_, locked) in &mut open {
            if fits {
                at = Some(locked.book.take(&self.holder, amount));
            }
            locked.write()?;
        }
        Ok(at)
    }

    fn send_now(&self, at: &Taken) -> Result<()> {
        for (_, locked) in &mut self.open()? {
            locked.book.send(&self.holder, at);
            locked.write()?;
        }
        Ok(())
    }

    fn give_back(&self) -> Result<()> {
        if self.back.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Ok(());
        }
        for (_, locked) in &mut self.open()? {
            locked.write()?;
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Gives back the part of `taken` that was not used, soon and on another thread.
    fn settle(self: &Arc<Self>, back: GivenBack, sent: Arc<AtomicBool>) {
        self.back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((back, sent));
        if self.flushing.swap(true, Ordering::SeqCst) {
            return;
        }
        let this = Arc::clone(self);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                let work = |this: &Arc<Self>| {
                    this.flushing.store(false, Ordering::SeqCst);
                    this.give_back()
                };
                if let Err(error) = this.in_turn(work).await {
                    not_given_back(&error);
                }
            })),
            Err(_) => {
                this.flushing.store(false, Ordering::SeqCst);
                if let Err(error) = this.give_back() {
                    not_given_back(&error);
                }
            }
        }
    }
}

fn not_given_back(error: &Error) {
    tracing::warn!("requests stay counted at their worst case in the allowance: {error}");
}

/// The worst case of one request, taken from the allowance. Dropping it gives back what was not used: everything if the
/// request was not sent, and otherwise nothing.
pub(crate) struct AllowanceHold {
    allowances: Arc<Allowances>,
    at: Taken,
    /// `true` if the books have the request as sent.
    sent: Arc<AtomicBool>,
    used: Taken,
}

impl AllowanceHold {
    /// Records that the request is about to be sent: until its use is known, all of it counts, even if this process
    /// ends.
    pub(crate) async fn sending(&self) -> Result<()> {
        let (at, sent) = (self.at, Arc::clone(&self.sent));
        let work = move |this: &Arc<Allowances>| {
            sent.store(true, Ordering::SeqCst);
            this.send_now(&at)
        };
        self.allowances.in_turn(work).await
    }

    /// Notes that the request is on its way, so that it is charged in full if its use never becomes known.
    pub(crate) fn sent(&mut self) {
        self.used = self.at;
    }

    /// Replaces the worst case by the actual use.
    pub(crate) fn settle(mut self, used: &Used) {
        self.used = Taken::of(used);
    }
}

impl Drop for AllowanceHold {
    fn drop(&mut self) {
        let (taken, used) = (self.at, self.used);
        self.allowances
            .settle(GivenBack { taken, used }, Arc::clone(&self.sent));
    }
}

#[cfg(test)]
mod tests;
