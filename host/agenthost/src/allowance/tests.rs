use super::*;

const DAY: u64 = 86_400;

/// Returns the allowances of a host with 1,000 tokens a day and 1,500 a month, at the time that `clock` has, in seconds.
fn host(dir: &Path, clock: &Arc<AtomicU64>) -> Arc<Allowances> {
    let mut limits = AllowanceConfig::default();
    (limits.tokens_per_day, limits.tokens_per_month) = (Some(1_000), Some(1_500));
    static NUMBER: AtomicU64 = AtomicU64::new(1 << 32);
    let clock = Arc::clone(clock);
    Arc::new(Allowances {
        books: vec![Limited {
            path: dir.join("allowance/user.json"),
            project: false,
            limits,
        }],
        now: Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))),
        holder: Holder::new(NUMBER.fetch_add(1, Ordering::SeqCst)),
        turn: Arc::default(),
        back: Mutex::default(),
        flushing: AtomicBool::new(false),
        changed: Notify::new(),
    })
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
    let mut held = one.take(&tokens(800)).await.unwrap().unwrap();
    assert!(other.take(&tokens(300)).await.unwrap().is_none(), "it has to wait");
    assert_eq!(left(&other).await, 1_000, "the first may give everything back");
    held.sending().await.unwrap();
    held.sent();
    held.settle(&tokens(100));
    one.flush().await;
    assert_eq!(left(&other).await, 900);
    let unsent = other.take(&tokens(900)).await.unwrap().unwrap();
    drop(unsent);
    other.flush().await;
    assert_eq!(left(&one).await, 900);
    let mut lost = one.take(&tokens(200)).await.unwrap().unwrap();
    lost.sending().await.unwrap();
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
    let sent = killed.take(&tokens(600)).await.unwrap().unwrap();
    sent.sending().await.unwrap();
    let unsent = killed.take(&tokens(400)).await.unwrap().unwrap();
    std::mem::forget((sent, unsent));
    let next = host(dir.path(), &clock);
    assert!(next.take(&tokens(1)).await.unwrap().is_none());
    written_by_one_that_is_gone(dir.path());
    assert_eq!(left(&next).await, 400);
    clock.store(2 * DAY, Ordering::SeqCst);
    assert_eq!(left(&next).await, 900, "of the month");
    drop(next.take(&tokens(900)).await.unwrap().unwrap());
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
    let mut held = hidden.take(&tokens(600)).await.unwrap().unwrap();
    let unsent = hidden.take(&tokens(100)).await.unwrap().unwrap();
    written_by_one_that_is_gone(dir.path());
    drop(other.take(&tokens(1)).await.unwrap());
    other.flush().await;
    assert_eq!(left(&other).await, 1_000, "it looks as if it were gone");
    held.sending().await.unwrap();
    held.sent();
    drop(unsent);
    held.settle(&tokens(250));
    hidden.flush().await;
    assert_eq!(left(&other).await, 750);
}

#[tokio::test]
async fn what_nobody_waits_for_is_given_back() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(DAY)));
    let one = host(dir.path(), &clock);
    let (amount, turn) = (tokens(1_000), Arc::clone(&one.turn).lock_owned().await);
    {
        let taking = std::pin::pin!(one.take(&amount));
        let nothing = tokio::time::timeout(Duration::from_millis(1), taking).await;
        assert!(nothing.is_err());
    }
    drop(turn);
    let held = one.take(&amount).await.unwrap();
    drop(held.unwrap());
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
    let mut held = host.take(&tokens(1_000)).await.unwrap().unwrap();
    held.sending().await.unwrap();
    held.sent();
    assert!(host.take(&tokens(1)).await.unwrap().is_none());
    clock.store(DAY, Ordering::SeqCst);
    assert!(
        host.take(&tokens(501)).await.unwrap().is_none(),
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
    assert!(host.take(&tokens(1)).await.is_err());
    let error = host.check().unwrap_err();
    assert!(error.to_string().contains("user.json is damaged"), "{error}");
    assert!(error.hint().unwrap().contains("counting starts again from zero"));
}
