use super::*;

const DAY: u64 = 86_400;

/// Returns the allowances of a host with 1,000 tokens a day and 1,500 a month, at the time that `clock` has, in seconds.
fn host(dir: &Path, clock: &Arc<AtomicU64>) -> Arc<Allowances> {
    host_with(dir, clock, &["user"])
}

/// Returns the allowances of a host with these books.
fn host_with(dir: &Path, clock: &Arc<AtomicU64>, books: &[&str]) -> Arc<Allowances> {
    let mut limits = AllowanceConfig::default();
    (limits.tokens_per_day, limits.tokens_per_month) = (Some(1_000), Some(1_500));
    static NUMBER: AtomicU64 = AtomicU64::new(1 << 32);
    let clock = Arc::clone(clock);
    let book = |name: &&str| {
        SharedBook::new(Limited {
            path: dir.join(format!("allowance/{name}.json")),
            project: false,
            schedule: None,
            limits: limits.clone(),
        })
    };
    Arc::new(Allowances {
        books: books.iter().map(book).collect(),
        now: Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))),
        holder: Holder::new(NUMBER.fetch_add(1, Ordering::SeqCst)),
        turn: Arc::default(),
        flushing: AtomicBool::new(false),
        changed: Notify::new(),
    })
}

/// Takes from the allowances of `host`, if it fits.
async fn take(host: &Arc<Allowances>, amount: u64) -> Option<AllowanceHold> {
    let room = host.room().await.unwrap();
    host.take(&tokens(amount), &room).await.unwrap()
}

/// Sends a request that may use `worst` and uses `used`.
async fn spend(host: &Arc<Allowances>, worst: u64, used: u64) {
    let held = take(host, worst).await.unwrap();
    let mut held = held.sending().await.unwrap();
    held.sent();
    held.settle(&tokens(used));
    host.flush().await;
}

fn tokens(input: u64) -> Used {
    Used {
        input,
        ..Used::default()
    }
}

async fn left(host: &Arc<Allowances>) -> u64 {
    host.room().await.unwrap().tokens
}

#[tokio::test]
async fn hosts_share_what_is_left_and_get_back_what_is_not_used() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let (one, other) = (host(dir.path(), &clock), host(dir.path(), &clock));
    let held = take(&one, 800).await.unwrap();
    assert!(take(&other, 300).await.is_none(), "it has to wait");
    assert_eq!(left(&other).await, 1_000, "the first may give everything back");
    let mut held = held.sending().await.unwrap();
    held.sent();
    held.settle(&tokens(100));
    one.flush().await;
    assert_eq!(left(&other).await, 900);
    let unsent = take(&other, 900).await.unwrap();
    drop(unsent);
    other.flush().await;
    assert_eq!(left(&one).await, 900);
    let lost = take(&one, 200).await.unwrap();
    let mut lost = lost.sending().await.unwrap();
    lost.sent();
    drop(lost);
    one.flush().await;
    assert_eq!(left(&other).await, 700, "a request without an end is charged in full");
    let stopped = other.room().await.unwrap().stopped(LimitKind::Tokens).unwrap();
    assert_eq!(stopped.most, 1_000);
    assert_eq!(stopped.owner.unwrap().to_string(), "your allowance `tokens-per-day`");
}

/// Changes the book as if another process, which is gone, had written it.
#[cfg(unix)]
fn written_by_one_that_is_gone(dir: &Path) {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let path = dir.join("allowance/user.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let me = format!("\"pid\":{}", std::process::id());
    assert!(text.contains(&me), "{text}");
    std::fs::write(&path, text.replace(&me, &format!("\"pid\":{}", child.id()))).unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_process_that_is_gone_leaves_what_it_sent_and_nothing_else() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let killed = host(dir.path(), &clock);
    let sent = take(&killed, 600).await.unwrap();
    let sent = sent.sending().await.unwrap();
    let unsent = take(&killed, 400).await.unwrap();
    std::mem::forget((sent, unsent));
    let next = host(dir.path(), &clock);
    assert!(take(&next, 1).await.is_none());
    written_by_one_that_is_gone(dir.path());
    assert_eq!(left(&next).await, 400);
    clock.store(2 * DAY, Ordering::SeqCst);
    assert_eq!(left(&next).await, 900, "of the month");
    drop(take(&next, 900).await.unwrap());
    next.flush().await;
    let text = std::fs::read_to_string(dir.path().join("allowance/user.json")).unwrap();
    assert!(text.contains("\"holders\":[]"), "{text}");
    assert_eq!(left(&next).await, 900);
}

#[cfg(unix)]
#[tokio::test]
async fn a_process_that_others_cannot_see_counts_what_it_sends() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let (hidden, other) = (host(dir.path(), &clock), host(dir.path(), &clock));
    let held = take(&hidden, 600).await.unwrap();
    let unsent = take(&hidden, 100).await.unwrap();
    written_by_one_that_is_gone(dir.path());
    drop(take(&other, 1).await);
    other.flush().await;
    assert_eq!(left(&other).await, 1_000, "it looks as if it were gone");
    let mut held = held.sending().await.unwrap();
    held.sent();
    drop(unsent);
    held.settle(&tokens(250));
    hidden.flush().await;
    assert_eq!(left(&other).await, 750);
}

#[tokio::test]
async fn what_is_no_longer_waited_for_is_given_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let one = host(dir.path(), &clock);
    let (amount, room) = (tokens(1_000), one.room().await.unwrap());
    let turn = Arc::clone(&one.turn).lock_owned().await;
    {
        let taking = std::pin::pin!(one.take(&amount, &room));
        let nothing = tokio::time::timeout(Duration::from_millis(1), taking).await;
        assert!(nothing.is_err());
    }
    drop(turn);
    drop(take(&one, 1_000).await.unwrap());
    one.flush().await;
    assert_eq!(left(&one).await, 1_000);
}

#[test]
fn a_lock_that_is_kept_is_not_waited_for_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("user.json");
    let now: Now = Arc::new(SystemTime::now);
    let mut book = BookFile::new(&path);
    book.patience = Duration::ZERO;
    let kept = book.lock(&now).unwrap();
    let error = book.lock(&now).err().unwrap();
    assert!(error.to_string().contains("user.lock"), "{error}");
    assert!(error.hint().unwrap().contains("End that process"));
    drop(kept);
    assert!(book.lock(&now).is_ok());
}

#[tokio::test]
async fn a_day_and_a_month_begin_in_utc() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY - 1)));
    let host = host(dir.path(), &clock);
    let held = take(&host, 1_000).await.unwrap();
    let mut held = held.sending().await.unwrap();
    held.sent();
    assert!(take(&host, 1).await.is_none());
    clock.store(DAY, Ordering::SeqCst);
    assert!(
        take(&host, 501).await.is_none(),
        "the month has 500 left, until the request has settled"
    );
    held.settle(&tokens(900));
    host.flush().await;
    assert_eq!(left(&host).await, 600, "what is given back belongs to its own day");
    clock.store(31 * DAY, Ordering::SeqCst);
    assert_eq!(left(&host).await, 1_000);
}

#[tokio::test]
async fn a_broken_book_stops_requests() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let host = host(dir.path(), &clock);
    std::fs::create_dir(dir.path().join("allowance")).unwrap();
    std::fs::write(dir.path().join("allowance/user.json"), "{").unwrap();
    assert!(host.room().await.is_err());
    let any = PeriodSum {
        tokens: u64::MAX,
        cost: u64::MAX,
    };
    let room = AllowanceRoom {
        tokens: u64::MAX,
        cost: Usd::ZERO,
        now: any,
        tightest: [None, None],
    };
    assert!(host.take(&tokens(1), &room).await.is_err());
    let error = host.check().unwrap_err();
    assert!(error.to_string().contains("user.json is damaged"), "{error}");
    assert!(error.hint().unwrap().contains("counting starts again from zero"));
}

/// A book that cannot be written, because a folder has the name of its next version.
struct Unwritable(PathBuf);

impl Unwritable {
    fn new(dir: &Path, book: &str) -> Self {
        let new = dir.join(format!("allowance/{book}.new"));
        let _ = std::fs::remove_file(&new);
        std::fs::create_dir_all(&new).unwrap();
        Self(new)
    }

    fn end(self) {
        std::fs::remove_dir(self.0).unwrap();
    }
}

fn book(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(format!("allowance/{name}.json"))).unwrap()
}

#[tokio::test]
async fn a_request_that_could_not_be_noted_as_sent_gives_back_its_own_part_once() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let (one, other) = (host(dir.path(), &clock), host(dir.path(), &clock));
    spend(&other, 300, 300).await;
    let held = take(&one, 600).await.unwrap();
    let full = Unwritable::new(dir.path(), "user");
    assert!(held.sending().await.is_err());
    one.flush().await;
    full.end();
    one.flush().await;
    assert_eq!(left(&other).await, 700, "the 300 of the other stay counted");
    let text = book(dir.path(), "user");
    assert!(text.contains("\"holders\":[]"), "{text}");
}

#[tokio::test]
async fn each_of_two_books_gets_back_what_it_has() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let host = host_with(dir.path(), &clock, &["user", "project"]);
    spend(&host, 500, 100).await;
    let full = Unwritable::new(dir.path(), "project");
    let room = host.room().await.unwrap();
    assert!(
        host.take(&tokens(400), &room).await.is_err(),
        "the first book has it already"
    );
    full.end();
    host.flush().await;
    let held = take(&host, 900).await.unwrap();
    let full = Unwritable::new(dir.path(), "project");
    assert!(held.sending().await.is_err());
    full.end();
    host.flush().await;
    for name in ["user", "project"] {
        let text = book(dir.path(), name);
        assert!(text.contains("\"holders\":[]"), "{text}");
        assert!(text.contains("\"day\":{\"tokens\":100,"), "{text}");
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_while_it_is_noted_as_sent_leaves_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let one = host(dir.path(), &clock);
    let held = take(&one, 600).await.unwrap();
    let lock = std::fs::File::open(dir.path().join("allowance/user.lock")).unwrap();
    lock.lock().unwrap();
    {
        let sending = std::pin::pin!(held.sending());
        let nothing = tokio::time::timeout(Duration::from_millis(20), sending).await;
        assert!(nothing.is_err(), "the lock is kept");
    }
    lock.unlock().unwrap();
    // The thread that waits for the lock notices it at its next look.
    let emptied = async {
        while !book(dir.path(), "user").contains("\"holders\":[]") {
            tokio::time::sleep(Duration::from_millis(10)).await;
            one.flush().await;
        }
    };
    let emptied = tokio::time::timeout(Duration::from_secs(60), emptied).await;
    let text = book(dir.path(), "user");
    assert!(emptied.is_ok(), "{text}");
    assert!(text.contains("\"day\":{\"tokens\":0,"), "{text}");
}

#[tokio::test]
async fn a_request_that_does_not_fit_neither_locks_nor_writes_a_book() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let (one, other) = (host(dir.path(), &clock), host(dir.path(), &clock));
    let held = take(&one, 800).await.unwrap();
    let before = other.room().await.unwrap();
    let full = Unwritable::new(dir.path(), "user");
    assert!(other.take_now(PeriodSum::of(&tokens(300))).unwrap().is_none());
    full.end();
    let lock = std::fs::File::open(dir.path().join("allowance/user.lock")).unwrap();
    lock.lock().unwrap();
    assert!(other.take(&tokens(300), &before).await.unwrap().is_none());
    lock.unlock().unwrap();
    drop(held);
    assert!(
        one.take(&tokens(300), &before).await.unwrap().is_some(),
        "its own part, which is about to be given back, counts as free"
    );
}

#[tokio::test]
async fn a_clock_that_goes_back_resets_nothing() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(31 * DAY)));
    let one = host(dir.path(), &clock);
    spend(&one, 800, 800).await;
    // Another machine, on which it is still January.
    let other = host(dir.path(), &Arc::new(AtomicU64::new(31 * DAY - 60)));
    assert_eq!(left(&other).await, 200);
    spend(&other, 100, 100).await;
    assert_eq!(left(&one).await, 100, "the later day goes on");

    clock.store(90 * DAY, Ordering::SeqCst);
    spend(&one, 300, 300).await;
    let in_flight = take(&one, 500).await.unwrap();
    clock.store(32 * DAY, Ordering::SeqCst);
    assert_eq!(left(&one).await, 200, "nothing of it is known to be free");
    drop(in_flight);
    one.flush().await;
    assert_eq!(left(&one).await, 200);
    clock.store(33 * DAY, Ordering::SeqCst);
    assert_eq!(left(&one).await, 700, "of the month");
}
