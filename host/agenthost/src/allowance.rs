//! The allowance: limits on everything that all runs of a user, of a user in one project, or of a schedule use in a day
//! or a month.
//!
//! There are two books: one for the user, limited by `[allowance]` of the operator's own file, and one for the project,
//! limited by that of the project's file. A host that runs a schedule has a third one, for its runs alone. Each is a
//! small JSON file in the user's state directory, replaced as a whole under a lock. A request takes its worst case from
//! its books before it is sent, and gives the rest back once its use is known. If a process dies, what it took for
//! requests that it had not sent is free again for the next process that looks; the requests that it had sent may be
//! billed and stay counted at their worst case. Days and months are those of UTC.
//!
//! A request that does not fit waits while live processes may give back enough; otherwise it is refused. Replies made
//! up on this machine count nothing. A replay sends nothing and does not look at the books.

mod file;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

pub(crate) use self::file::Now;
use self::file::{Book, BookFile, GivenBack, Holder, LockedBook, PeriodSum, Taken};
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
    /// The schedule whose runs it limits; `None` for `[allowance]`.
    pub schedule: Option<String>,
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
        all.extend(limits.now(now)?);
    }
    Ok(all)
}

/// Returns the money of the schedule `name` of a day, with its use. `None` if there is no such schedule. Changes
/// nothing.
///
/// # Errors
///
/// [`ErrorClass::Host`](crate::ErrorClass::Host) if the book cannot be read.
#[doc(hidden)]
pub fn of_schedule(config: &Config, name: &str, state: &Path, now: SystemTime) -> Result<Option<AllowanceStatus>> {
    match schedule_book(config, name, state) {
        Some(limits) => Ok(limits.now(now)?.into_iter().next()),
        None => Ok(None),
    }
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
    schedule: Option<String>,
    limits: AllowanceConfig,
}

impl Limited {
    /// Returns the settings with their use at this time.
    fn now(&self, now: SystemTime) -> Result<Vec<AllowanceStatus>> {
        let mut book = BookFile::new(&self.path).read(now)?;
        book.forget_gone();
        Ok(self.statuses(&book, now))
    }

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
                schedule: self.schedule.clone(),
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
                schedule: None,
                limits: limits.clone(),
            });
        }
    };
    add("user.json".to_owned(), false, config.user_allowance());
    if let Some(file) = config.project_file() {
        add(
            format!("project-{}.json", of_file(file)),
            true,
            config.project_allowance(),
        );
    }
    books
}

/// Returns the book of a schedule.
fn schedule_book(config: &Config, name: &str, state: &Path) -> Option<Limited> {
    let schedule = config.schedules().get(name)?;
    let mut limits = AllowanceConfig::default();
    limits.cost_per_day = Some(schedule.cost_per_day);
    let file = format!("schedule-{}-{name}.json", of_file(schedule.origin.file()));
    Some(Limited {
        path: state.join(FOLDER).join(file),
        project: false,
        schedule: Some(name.to_owned()),
        limits,
    })
}

/// Returns the name of a configuration file in the names of this user's records.
pub(crate) fn of_file(file: &Path) -> String {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let digest = Sha256::digest(file.as_os_str().as_encoded_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// One book that the requests of a host take from.
struct SharedBook {
    limited: Limited,
    /// The amounts that the next access gives back, until the file has them.
    back: Mutex<Vec<GivenBack>>,
}

impl SharedBook {
    fn new(limited: Limited) -> Self {
        let back = Mutex::default();
        Self { limited, back }
    }

    fn back(&self) -> MutexGuard<'_, Vec<GivenBack>> {
        // A panic under this lock leaves the data consistent.
        self.back.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A locked book, to which everything that is known to be unused has been given back.
struct OpenBook<'a> {
    shared: &'a SharedBook,
    locked: LockedBook,
    given_back: usize,
}

impl<'a> OpenBook<'a> {
    fn open(shared: &'a SharedBook, now: &Now, holder: &Holder) -> Result<Self> {
        let mut locked = BookFile::new(&shared.limited.path).lock(now)?;
        let back = shared.back().clone();
        for back in &back {
            locked.book.give_back(holder, back);
        }
        Ok(Self {
            shared,
            locked,
            given_back: back.len(),
        })
    }

    /// Replaces the file. If this fails, the next access gives back the same.
    fn write(&mut self) -> Result<()> {
        self.locked.write()?;
        self.shared.back().drain(..std::mem::take(&mut self.given_back));
        Ok(())
    }
}

/// The allowances of a host.
pub(crate) struct Allowances {
    books: Vec<SharedBook>,
    now: Now,
    holder: Holder,
    /// Held by the one thread of this host that waits for the locks of the books.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// `true` if a thread is about to give back.
    flushing: AtomicBool,
    changed: Notify,
}

/// The amounts that can still be taken.
pub(crate) struct AllowanceRoom {
    /// The tokens once everything in flight has settled.
    pub(crate) tokens: u64,
    /// The money once everything in flight has settled.
    pub(crate) cost: Usd,
    /// The amount at the moment.
    now: PeriodSum,
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
                schedule: status.schedule.clone(),
            }),
            most: status.most,
        })
    }
}

impl Allowances {
    /// Returns the allowances that `config` sets, and that of a schedule if the host runs one; `None` if there are
    /// none.
    pub(crate) fn new(
        config: &Config,
        schedule: Option<&str>,
        state: Option<&Path>,
        now: Now,
    ) -> Result<Option<Arc<Self>>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let place = state.unwrap_or(Path::new(""));
        let mut books = books(config, place);
        if let Some(name) = schedule {
            let book = schedule_book(config, name, place);
            books.push(book.ok_or_else(|| Error::config(format!("no schedule is named `{name}`")))?);
        }
        if books.is_empty() {
            return Ok(None);
        }
        if state.is_none() {
            return Err(Error::config(
                "an allowance or a schedule is set, and there is no state directory to count in",
            )
            .with_hint("Set HOME or XDG_STATE_HOME; a program calls `HostBuilder::state_dir`."));
        }
        Ok(Some(Arc::new(Self {
            books: books.into_iter().map(SharedBook::new).collect(),
            now,
            holder: Holder::new(NEXT.fetch_add(1, Ordering::Relaxed)),
            turn: Arc::default(),
            flushing: AtomicBool::new(false),
            changed: Notify::new(),
        })))
    }

    /// Returns whether money is limited, so that a model without a price cannot be called.
    pub(crate) fn limits_cost(&self) -> bool {
        let limits = |limits: &AllowanceConfig| limits.cost_per_day.is_some() || limits.cost_per_month.is_some();
        self.books.iter().any(|book| limits(&book.limited.limits))
    }

    /// Checks that the books can be read.
    pub(crate) fn check(&self) -> Result<()> {
        let now = (self.now)();
        self.books
            .iter()
            .try_for_each(|book| BookFile::new(&book.limited.path).read(now).map(drop))
    }

    /// Returns what can still be taken, now and once everything in flight has settled.
    pub(crate) async fn room(self: &Arc<Self>) -> Result<AllowanceRoom> {
        self.blocking(|this| {
            let mut room = AllowanceRoom {
                tokens: u64::MAX,
                cost: Usd::from_pico(u64::MAX),
                now: PeriodSum {
                    tokens: u64::MAX,
                    cost: u64::MAX,
                },
                tightest: [None, None],
            };
            let now = (this.now)();
            for SharedBook { limited, .. } in &this.books {
                let mut book = BookFile::new(&limited.path).read(now)?;
                book.forget_gone();
                for status in limited.statuses(&book, now) {
                    let left = status.most.saturating_sub(status.used);
                    let least = match status.limit {
                        LimitKind::Cost => &mut room.now.cost,
                        _ => &mut room.now.tokens,
                    };
                    *least = left.min(*least);
                }
                for status in limited.statuses(&book.settled(), now) {
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

    /// Takes the worst case of a request from all books. `None` if it does not fit at the moment: `room` shows that, so
    /// that a request that waits neither locks nor writes a book.
    pub(crate) async fn take(self: &Arc<Self>, worst: &Used, room: &AllowanceRoom) -> Result<Option<AllowanceHold>> {
        let amount = PeriodSum::of(worst);
        let may_fit = amount.is_within(&room.now) || self.books.iter().any(|book| !book.back().is_empty());
        if !may_fit {
            return Ok(None);
        }
        // The hold is made on the other thread, so that it is given back if the caller no longer waits.
        self.in_turn(move |this| this.take_now(amount)).await
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

    /// Does work that waits for the locks of the books. Others of this host wait without a thread meanwhile. The work
    /// is done even if the caller no longer waits.
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
    fn open(&self) -> Result<Vec<OpenBook<'_>>> {
        let open = |book| OpenBook::open(book, &self.now, &self.holder);
        self.books.iter().map(open).collect()
    }

    fn take_now(self: &Arc<Self>, amount: PeriodSum) -> Result<Option<AllowanceHold>> {
        let mut open = self.open()?;
        let now = (self.now)();
        let fits = open.iter().all(|book| {
            let mut after = book.locked.book.clone();
            after.take(&self.holder, amount);
            let mut statuses = book.shared.limited.statuses(&after, now).into_iter();
            statuses.all(|status| status.used <= status.most)
        });
        if !fits {
            for book in open.iter_mut().filter(|book| book.given_back > 0) {
                book.write()?;
            }
            return Ok(None);
        }
        let mut hold = AllowanceHold {
            allowances: Arc::clone(self),
            amount,
            taken: Vec::with_capacity(open.len()),
            sent_in: 0,
            used: PeriodSum::default(),
        };
        for book in &mut open {
            let taken = book.locked.book.take(&self.holder, amount);
            book.write()?;
            hold.taken.push(taken);
        }
        Ok(Some(hold))
    }

    fn give_back(&self) -> Result<()> {
        if self.books.iter().all(|book| book.back().is_empty()) {
            return Ok(());
        }
        for book in &mut self.open()? {
            book.write()?;
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Gives back what has been noted in the books, soon and on another thread.
    fn give_back_soon(self: &Arc<Self>) {
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
    amount: PeriodSum,
    /// The amount as each book has it, in the order of the books. It is shorter if taking failed.
    taken: Vec<Taken>,
    /// The number of books, in their order, that have the request as sent.
    sent_in: usize,
    used: PeriodSum,
}

impl AllowanceHold {
    /// Records that the request is about to be sent: until its use is known, all of it counts, even if this process
    /// ends. If this fails, everything is given back.
    pub(crate) async fn sending(mut self) -> Result<Self> {
        let allowances = Arc::clone(&self.allowances);
        let work = move |this: &Arc<Allowances>| {
            for (book, taken) in this.open()?.iter_mut().zip(&self.taken) {
                book.locked.book.send(&this.holder, taken);
                book.write()?;
                self.sent_in += 1;
            }
            Ok(self)
        };
        allowances.in_turn(work).await
    }

    /// Notes that the request is on its way, so that it is charged in full if its use never becomes known.
    pub(crate) fn sent(&mut self) {
        self.used = self.amount;
    }

    /// Replaces the worst case by the actual use.
    pub(crate) fn settle(mut self, used: &Used) {
        self.used = PeriodSum::of(used);
    }
}

impl Drop for AllowanceHold {
    fn drop(&mut self) {
        for (index, (book, taken)) in self.allowances.books.iter().zip(&self.taken).enumerate() {
            book.back().push(GivenBack {
                taken: *taken,
                used: self.used,
                is_sent: index < self.sent_in,
            });
        }
        if !self.taken.is_empty() {
            self.allowances.give_back_soon();
        }
    }
}

#[cfg(test)]
mod tests;
