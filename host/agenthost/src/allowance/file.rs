//! One book of the allowance, and its file.
//!
//! The file is replaced by renaming, so that a process that dies while it writes leaves the earlier state. The lock is
//! a second file, because the first one changes its identity. It belongs to the operating system and ends with its
//! holder. If a process hangs while it holds the lock, others wait no longer than [`PATIENCE`]. A file that cannot be
//! read or locked stops every request: to count anew would lift the limit.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::private::{private_dir, private_file};
use agenthost_core::date::utc_date;
use agenthost_core::error::{Error, Result};
use agenthost_core::limits::Usd;
use agenthost_core::limits::ledger::Used;
use agenthost_core::plain_file::{self, Links};
use agenthost_core::process;

/// A source of the time, so that a test can choose the day.
pub(crate) type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;

const FORMAT: u32 = 1;
/// The maximum file size: room for thousands of processes.
const MOST_BYTES: u64 = 1 << 20;
/// The time to wait for the lock. It is held for about a millisecond.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The length of a day, in seconds.
const DAY: Duration = Duration::from_secs(86_400);

/// An amount that was taken from a book, and the day on which it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    amount: PeriodSum,
    date: Date,
}

/// An amount that was taken for a request that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct GivenBack {
    pub(super) taken: Taken,
    pub(super) used: PeriodSum,
    /// `true` if [`Book::send`] was called for it.
    pub(super) is_sent: bool,
}

/// A day in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Date {
    year: u64,
    month: u64,
    day: u64,
}

impl Date {
    fn of(now: SystemTime) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = utc_date(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        Self { year, month, day }
    }

    fn is_same_month(self, other: Self) -> bool {
        (self.year, self.month) == (other.year, other.month)
    }
}

/// The amounts taken in a period, with those of requests in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PeriodSum {
    pub(super) tokens: u64,
    /// In pico-dollars.
    pub(super) cost: u64,
}

impl PeriodSum {
    pub(super) fn of(used: &Used) -> Self {
        Self {
            tokens: used.input.saturating_add(used.output),
            cost: used.cost.map_or(0, Usd::pico),
        }
    }

    /// Returns whether this is not more than `most`.
    pub(super) fn is_within(&self, most: &Self) -> bool {
        self.tokens <= most.tokens && self.cost <= most.cost
    }

    fn add(&mut self, other: Self) {
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.cost = self.cost.saturating_add(other.cost);
    }

    fn remove(&mut self, other: Self) {
        *self = self.less(other);
    }

    fn less(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(other.tokens),
            cost: self.cost.saturating_sub(other.cost),
        }
    }
}

/// A host whose requests are in flight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pid: u32,
    start: Option<String>,
    /// Distinguishes the hosts of one process.
    number: u64,
    /// The day from which its requests have taken.
    date: Date,
    /// The part of the sums that belongs to requests that are not sent yet.
    unsent: PeriodSum,
    /// The part of the sums that belongs to requests that are sent and not settled.
    sent: PeriodSum,
}

impl Holder {
    pub(super) fn new(number: u64) -> Self {
        let pid = std::process::id();
        Self {
            pid,
            start: process::start_of(pid),
            number,
            date: Date::default(),
            unsent: PeriodSum::default(),
            sent: PeriodSum::default(),
        }
    }

    fn is_alive(&self) -> bool {
        process::is_alive_since(self.pid, self.start.as_deref())
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.pid, &self.start, self.number, self.date) == (other.pid, &other.start, other.number, other.date)
    }
}

/// The content of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    format: u32,
    date: Date,
    pub(super) day: PeriodSum,
    pub(super) month: PeriodSum,
    /// The hosts with requests in flight.
    holders: Vec<Holder>,
}

impl Book {
    /// Begins a new day or month if one has begun. A clock that goes back, or that of another machine, resets nothing: the
    /// book stays up to a day ahead of it, and takes the date of a clock that was further ahead back with its sums.
    fn turn_to(&mut self, now: SystemTime) {
        let date = Date::of(now);
        if date <= self.date && self.date <= Date::of(now + DAY) {
            return;
        }
        let (goes_on, is_same_month) = (date > self.date, self.date.is_same_month(date));
        if goes_on {
            self.day = PeriodSum::default();
        }
        if goes_on && !is_same_month {
            self.month = PeriodSum::default();
        }
        if !is_same_month {
            // Requests in flight give nothing back to another month than their own.
            self.holders.clear();
        }
        self.date = date;
    }

    /// Frees what processes that are gone took for requests that they never sent. Those that they sent may be billed,
    /// so their worst case stays counted.
    pub(super) fn forget_gone(&mut self) {
        for holder in std::mem::take(&mut self.holders) {
            match holder.is_alive() {
                true => self.holders.push(holder),
                false => self.remove(holder.date, holder.unsent),
            }
        }
    }

    fn add(&mut self, date: Date, amount: PeriodSum) {
        self.month.add(amount);
        if date == self.date {
            self.day.add(amount);
        }
    }

    fn remove(&mut self, date: Date, amount: PeriodSum) {
        self.month.remove(amount);
        if date == self.date {
            self.day.remove(amount);
        }
    }

    /// Changes the entry of a host for a day. It is kept only while it has requests in flight.
    fn change<T>(&mut self, holder: &Holder, date: Date, change: impl FnOnce(&mut Holder) -> T) -> T {
        let wanted = Holder { date, ..holder.clone() };
        let at = self.holders.iter().position(|known| known.is_same(&wanted));
        let mut entry = at.map_or(wanted, |at| self.holders.swap_remove(at));
        let result = change(&mut entry);
        if (entry.unsent, entry.sent) != (PeriodSum::default(), PeriodSum::default()) {
            self.holders.push(entry);
        }
        result
    }

    /// Takes an amount, and returns it with its day.
    pub(super) fn take(&mut self, holder: &Holder, amount: PeriodSum) -> Taken {
        let date = self.date;
        self.add(date, amount);
        self.change(holder, date, |entry| entry.unsent.add(amount));
        Taken { amount, date }
    }

    /// Notes that the request that took an amount is about to be sent.
    pub(super) fn send(&mut self, holder: &Holder, taken: &Taken) {
        let Taken { amount, date } = *taken;
        if !date.is_same_month(self.date) {
            return;
        }
        let freed = self.change(holder, date, |entry| {
            let freed = amount.less(entry.unsent);
            entry.unsent.remove(amount);
            entry.sent.add(amount);
            freed
        });
        // Another process could not see that this one is alive, and has freed its part.
        self.add(date, freed);
    }

    /// Replaces an amount that was taken by the one that was used.
    pub(super) fn give_back(&mut self, holder: &Holder, back: &GivenBack) {
        let Taken { amount, date } = back.taken;
        if !date.is_same_month(self.date) {
            return;
        }
        let counted = self.change(holder, date, |entry| match back.is_sent {
            true => {
                entry.sent.remove(amount);
                amount
            }
            // What another process has freed is no longer in the sums.
            false => {
                let freed = amount.less(entry.unsent);
                entry.unsent.remove(amount);
                amount.less(freed)
            }
        });
        self.remove(date, counted);
        self.add(date, back.used);
    }

    /// Returns the book as it is once all requests in flight are settled and use nothing.
    pub(super) fn settled(mut self) -> Self {
        self.forget_gone();
        for holder in std::mem::take(&mut self.holders) {
            self.remove(holder.date, holder.unsent);
            self.remove(holder.date, holder.sent);
        }
        self
    }
}

/// The file of a book.
pub(super) struct BookFile<'a> {
    path: &'a Path,
    pub(super) patience: Duration,
}

impl<'a> BookFile<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self {
            path,
            patience: PATIENCE,
        }
    }

    /// Reads the book as of `now`, without a lock.
    pub(super) fn read(&self, now: SystemTime) -> Result<Book> {
        let mut book = match plain_file::read(self.path, Links::Refuse, MOST_BYTES) {
            Ok(bytes) => serde_json::from_slice::<Book>(&bytes)
                .ok()
                .filter(|book| book.format == FORMAT)
                .ok_or_else(|| {
                    let path = self.path.display();
                    Error::host(format!(
                        "{path} is damaged, or was written by a newer version; it counts what is used of [allowance]"
                    ))
                    .with_hint(format!(
                        "Bring the file back from a copy. Without {path}, counting starts again from zero."
                    ))
                })?,
            Err(error) if error.kind() == ErrorKind::NotFound => Book {
                format: FORMAT,
                ..Book::default()
            },
            Err(error) => return Err(self.failed("read", &error)),
        };
        book.turn_to(now);
        Ok(book)
    }

    /// Waits for the lock and reads the book. The time is read under the lock, because a day may begin while it waits.
    pub(super) fn lock(&self, now: &Now) -> Result<LockedBook> {
        let path = self.path.with_extension("lock");
        let open = || {
            private_dir(self.path.parent().unwrap_or(Path::new(".")))?;
            private_file(&path)
        };
        let lock = open().map_err(|error| self.failed("lock", &error))?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if started.elapsed() < self.patience => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(TryLockError::WouldBlock) => return Err(self.kept(&path)),
                Err(TryLockError::Error(error)) => return Err(self.failed("lock", &error)),
            }
        }
        let mut book = self.read(now())?;
        book.forget_gone();
        Ok(LockedBook {
            book,
            path: self.path.to_owned(),
            _lock: lock,
        })
    }

    fn kept(&self, lock: &Path) -> Error {
        let (lock, seconds) = (lock.display(), self.patience.as_secs());
        Error::host(format!(
            "another process keeps {lock} locked for more than {seconds} s; it guards what is used of [allowance]"
        ))
        .with_hint(format!(
            "End that process (`fuser {lock}` shows it), or wait for it; then resume the run."
        ))
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> Error {
        let path = self.path.display();
        Error::host(format!("cannot {what} {path}: {error}")).with_hint(
            "The file counts what is used of [allowance]. Make its folder writable for this user, or take [allowance] out.",
        )
    }
}

/// A book that no other process can change. The lock ends with this value, or with its process.
pub(super) struct LockedBook {
    pub(super) book: Book,
    path: PathBuf,
    _lock: File,
}

impl LockedBook {
    /// Replaces the file.
    pub(super) fn write(&mut self) -> Result<()> {
        let new = self.path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = private_file(&new)?;
            file.set_len(0)?;
            file.write_all(&serde_json::to_vec(&self.book)?)?;
            drop(file);
            fs::rename(&new, &self.path)
        };
        write().map_err(|error| BookFile::new(&self.path).failed("write", &error))
    }
}
