//! The concurrency control: how many requests may be in flight to one model.
//!
//! The limit starts small and doubles while a higher one pays. It is halved when the service rejects a request for load,
//! as in TCP. A service that queues instead of rejecting is found out by *trials*: the limit is changed, and the latency
//! before and after the change shows by Little's law how the throughput changed with it (slots divided by latency). If
//! the slots in between bring less than half of what as many slots would bring without a queue, the lower limit is kept.
//! Both limits of a trial are measured one after the other and over whole rounds (as many replies as slots), so a
//! service that becomes slower for another reason, or long replies beside short ones, are not mistaken for a queue.
//!
//! The control is pure arithmetic: it holds no permit, reads no clock and waits for nothing, so scenarios can be
//! simulated instantly.

/// Milliseconds after a rejection in which the limit grows by one slot a round.
const CAREFUL: u64 = 60_000;
/// The smallest number of replies in a round, unless the limit is still doubling.
const LEAST: f64 = 4.0;
/// The number of replies whose latency is remembered for a limit.
const MEMORY: f64 = 64.0;
/// The smallest change of the limit, as a ratio, that a trial can judge.
const CHANGE: f64 = 1.25;
/// The rounds between two trials, after the first that does not pay and at most.
const PATIENCE: [u32; 2] = [4, 16];
/// The rounds after which a trial is decided even if the latencies vary too much to be sure.
const LONGEST_TRIAL: u32 = 4;
/// The distance from the threshold, in standard errors, from which a trial is sure.
const SURE: f64 = 1.5;
/// The ratio of two throughputs up to which they count as the same.
const SAME: f64 = 1.1;
/// The ratio of two latencies at one limit from which a queue is suspected.
const SLOWER: f64 = 1.3;
/// The number of tokens whose time the time of a reply has in addition to that of its own tokens.
const OFFSET: f64 = 32.0;
/// The part of a latency by which a request may have been sent before the limit was raised and still count for it.
const EARLY: f64 = 0.15;

/// The load signal of one reply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum LoadSignal {
    /// The service answered with `length` tokens after `latency` milliseconds. `full` if the limit was used up at the
    /// time, so that the latency is that of the limit.
    Healthy { full: bool, latency: f64, length: f64 },
    /// The service rejected the request for load: 429, 503, 529.
    Refused,
}

/// A request whose reply is observed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observed {
    pub(super) number: u64,
    /// The time when it was sent.
    pub(super) sent: u64,
}

/// The latencies and lengths of the replies at one limit, as sums over their logarithms. A reply that is twice as long
/// takes about twice as long.
#[derive(Debug, Clone, Copy, Default)]
struct Replies {
    count: f64,
    length: f64,
    latency: f64,
    /// The sums of the squared deviations of the lengths and of the latencies, and of the products of both.
    lengths: f64,
    latencies: f64,
    products: f64,
}

impl Replies {
    fn add(&mut self, latency: f64, length: f64) {
        let one = Self {
            count: 1.0,
            length: (length + OFFSET).ln(),
            latency: latency.max(0.5).ln(),
            ..Self::default()
        };
        self.join(&one);
    }

    fn join(&mut self, other: &Self) {
        let count = self.count + other.count;
        if count <= 0.0 {
            return;
        }
        let (longer, slower) = (other.length - self.length, other.latency - self.latency);
        let share = other.count / count;
        let weight = self.count * share;
        self.length += longer * share;
        self.latency += slower * share;
        self.lengths += other.lengths + longer * longer * weight;
        self.latencies += other.latencies + slower * slower * weight;
        self.products += other.products + longer * slower * weight;
        self.count = count;
    }

    /// Adds a later round, and forgets replies beyond [`MEMORY`].
    fn merge(&mut self, later: &Self) {
        let kept = (MEMORY / self.count.max(1.0)).min(1.0);
        for sum in [
            &mut self.count,
            &mut self.lengths,
            &mut self.latencies,
            &mut self.products,
        ] {
            *sum *= kept;
        }
        self.join(later);
    }

    /// Compares with the replies at another limit: the logarithm of the ratio of the other latency to this one for
    /// replies of one length, and its standard error.
    fn slower(&self, other: &Self) -> (f64, f64) {
        let lengths = self.lengths + other.lengths;
        let products = self.products + other.products;
        // The dependence on the length is that within each limit, since the lengths may differ between them.
        let slope = if lengths > 1e-9 {
            (products / lengths).clamp(0.0, 1.5)
        } else {
            0.0
        };
        let longer = other.length - self.length;
        let rest = self.latencies + other.latencies - slope * (2.0 * products - slope * lengths);
        let variance = rest.max(0.0) / (self.count + other.count - 3.0).max(1.0);
        let mut error = 1.0 / self.count.max(1.0) + 1.0 / other.count.max(1.0);
        if slope > 0.0 {
            error += longer * longer / lengths;
        }
        (other.latency - self.latency - slope * longer, (variance * error).sqrt())
    }
}

/// A comparison of the present limit with another one.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// The limit to return to.
    base: f64,
    /// The latencies at that limit.
    before: Replies,
    /// The latencies at the present limit, without the first round after an increase: its requests entered a shorter
    /// queue.
    after: Replies,
    rounds: u32,
}

/// The outcome of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    /// The higher one of the two limits pays.
    Higher,
    /// It does not. Holds its throughput as a multiple of the lower limit's.
    Lower(f64),
    Undecided,
}

#[derive(Debug, Clone)]
pub(super) struct ConcurrencyLimit {
    /// The limit below which only rejections lower it.
    floor: f64,
    ceiling: f64,
    /// The limit, a whole number.
    limit: f64,
    /// `true` if the limit doubles: until the first rejection or the first trial that does not pay.
    doubling: bool,
    /// The latencies at the limit, if no trial is under way.
    here: Replies,
    trial: Option<Trial>,
    /// The slots that the next increase adds.
    step: f64,
    /// `true` if the next trial lowers the limit.
    down: bool,
    /// The highest limit that was seen to pay, compared with a lower one.
    paid: f64,
    /// The rounds until the next trial.
    wait: u32,
    patience: u32,
    round: Replies,
    /// The time from which requests count for the present limit.
    since: u64,
    /// `true` if the last round was much slower than those before it.
    slower: bool,
    /// The number of the first request whose rejection counts: earlier ones were sent under the limit before the last
    /// cut.
    cut_before: u64,
    /// The time of the last rejection.
    refused_at: Option<u64>,
    /// Cuts since a request that was sent after a cut succeeded.
    consecutive_cuts: u32,
}

impl ConcurrencyLimit {
    pub(super) fn new(start: u32, floor: u32, ceiling: u32) -> Self {
        let ceiling = f64::from(ceiling.max(1));
        Self {
            floor: f64::from(floor.max(1)).min(ceiling),
            ceiling,
            limit: f64::from(start.max(1)).min(ceiling),
            doubling: true,
            here: Replies::default(),
            trial: None,
            step: 1.0,
            down: false,
            paid: 0.0,
            wait: 0,
            patience: PATIENCE[0],
            round: Replies::default(),
            since: 0,
            slower: false,
            cut_before: 0,
            refused_at: None,
            consecutive_cuts: 0,
        }
    }

    /// The number of consecutive cuts without a successful request that was sent in between.
    pub(super) fn cuts_in_a_row(&self) -> u32 {
        self.consecutive_cuts
    }

    /// The maximum number of requests in flight; at least 1.
    pub(super) fn limit(&self) -> u32 {
        // The value is between 1 and `u32::MAX`.
        self.limit as u32
    }

    /// Returns whether the limit still doubles.
    pub(super) fn is_doubling(&self) -> bool {
        self.doubling
    }

    /// Sets the highest limit.
    pub(super) fn set_ceiling(&mut self, ceiling: u32) {
        self.ceiling = f64::from(ceiling.max(1));
        self.floor = self.floor.min(self.ceiling);
        self.limit = self.limit.min(self.ceiling);
    }

    /// Takes the reply to `request` into account; `next` is the number of the next request to be sent. Returns whether
    /// the reply is the first rejection since the last cut.
    pub(super) fn observe(&mut self, now: u64, request: Observed, next: u64, sign: LoadSignal) -> bool {
        let Observed { number, sent } = request;
        match sign {
            LoadSignal::Healthy { full, latency, length } => {
                if number >= self.cut_before {
                    self.consecutive_cuts = 0;
                }
                if full && sent >= self.since {
                    self.round.add(latency, length);
                    let careful = self.refused_at.is_some_and(|at| now.saturating_sub(at) < CAREFUL);
                    let least = if self.doubling || careful { 0.0 } else { LEAST };
                    if self.round.count >= self.limit.max(least) {
                        self.end_round(careful, now);
                    }
                }
                false
            }
            LoadSignal::Refused => {
                self.refused_at = Some(now);
                // Rejections of requests that were sent in one burst count as one.
                if number < self.cut_before {
                    return false;
                }
                // A request that was sent alone after a rejection shows that the service is not back yet, and nothing
                // about the limit.
                if self.consecutive_cuts == 0 {
                    self.cut(now);
                }
                self.cut_before = next;
                self.consecutive_cuts = self.consecutive_cuts.saturating_add(1);
                true
            }
        }
    }

    fn cut(&mut self, now: u64) {
        self.doubling = false;
        self.trial = None;
        self.here = Replies::default();
        (self.step, self.down, self.wait) = (1.0, false, 0);
        self.patience = PATIENCE[0];
        self.set((self.limit / 2.0).floor(), now);
    }

    fn set(&mut self, limit: f64, now: u64) {
        let limit = limit.round().min(self.ceiling).max(1.0);
        self.since = if limit > self.limit {
            now.saturating_sub((self.here.latency.exp() * EARLY) as u64)
        } else {
            // Those of this moment may have entered the longer queue.
            now.saturating_add(1)
        };
        self.limit = limit;
        self.round = Replies::default();
        self.slower = false;
    }

    fn end_round(&mut self, careful: bool, now: u64) {
        let round = std::mem::take(&mut self.round);
        let Some(mut trial) = self.trial.take() else {
            self.rest(&round, careful, now);
            return;
        };
        trial.rounds += 1;
        let up = self.limit > trial.base;
        if up && self.limit < (trial.base * CHANGE).min(self.ceiling) {
            // Too small a change to be judged: go on.
            self.trial = Some(Trial { rounds: 0, ..trial });
            self.raise(careful, now);
            return;
        }
        if up && trial.rounds == 1 {
            // Requests that enter a growing queue wait less than those that follow. If these are much slower, a queue
            // grows; if they are hardly slower, none does. After a rejection, the next one will bound the limit if a
            // queue does not.
            let compare = |share, sure| verdict(&trial.before, trial.base, &round, self.limit, share, sure);
            let queues = compare(1.0, if careful { 2.0 * SURE } else { SURE });
            if matches!(queues, Verdict::Lower(_)) {
                self.conclude(&trial, &round, queues, careful, now);
            } else if careful || compare(0.5, 0.0) == Verdict::Higher {
                self.conclude(&trial, &round, Verdict::Higher, careful, now);
            } else {
                self.trial = Some(trial);
            }
            return;
        }
        trial.after.merge(&round);
        let sure = if self.doubling || trial.rounds >= LONGEST_TRIAL {
            0.0
        } else {
            SURE
        };
        let verdict = if up {
            verdict(&trial.before, trial.base, &trial.after, self.limit, 1.0, sure)
        } else {
            verdict(&trial.after, self.limit, &trial.before, trial.base, 1.0, sure)
        };
        if verdict == Verdict::Undecided {
            self.trial = Some(trial);
        } else {
            self.conclude(&trial, &trial.after, verdict, careful, now);
        }
    }

    /// Ends a round without a trial, and begins the next trial if it is time for it.
    fn rest(&mut self, round: &Replies, careful: bool, now: u64) {
        let (slower, error) = self.here.slower(round);
        let known = self.here.count >= LEAST;
        let slow = known && slower > SLOWER.ln() + 2.0 * error;
        if slow && !std::mem::replace(&mut self.slower, true) {
            // A queue may still be growing.
            return;
        }
        self.slower = false;
        if slow {
            // Either the service has fewer slots than before, or its latency has nothing to do with the limit.
            self.here = *round;
            let lower = (self.limit * CHANGE / slower.exp()).ceil().min(self.limit - 1.0);
            self.lower(lower, now);
            return;
        }
        self.here.merge(round);
        if self.wait > 0 {
            self.wait -= 1;
        } else if self.down {
            self.down(now);
        } else {
            self.up(careful, now);
        }
    }

    /// Begins a trial with a higher limit.
    fn up(&mut self, careful: bool, now: u64) {
        if self.limit >= self.ceiling {
            (self.down, self.wait) = (self.limit > self.paid, self.patience);
            self.patience = (self.patience * 2).min(PATIENCE[1]);
            return;
        }
        self.begin(now);
        self.raise(careful, now);
    }

    fn raise(&mut self, careful: bool, now: u64) {
        let step = match (careful, self.doubling) {
            (true, _) => 1.0,
            (false, true) => self.limit,
            (false, false) => self.step.max(self.limit / 4.0).min(self.limit),
        };
        self.set(self.limit + step.floor().max(1.0), now);
    }

    /// Begins a trial with a lower limit.
    fn down(&mut self, now: u64) {
        self.lower((self.limit * 0.75).floor(), now);
    }

    fn lower(&mut self, limit: f64, now: u64) {
        let limit = limit.max(self.floor);
        if limit < self.limit {
            self.begin(now);
            self.set(limit, now);
        } else {
            (self.down, self.wait) = (false, self.patience);
        }
    }

    fn begin(&mut self, now: u64) {
        self.trial = Some(Trial {
            base: self.limit,
            before: self.here,
            after: Replies::default(),
            rounds: 0,
        });
        self.set(self.limit, now);
    }

    /// Keeps the better one of the two limits; `after` has the latencies at the present one.
    fn conclude(&mut self, trial: &Trial, after: &Replies, verdict: Verdict, careful: bool, now: u64) {
        let up = self.limit > trial.base;
        self.here = if up == (verdict == Verdict::Higher) {
            *after
        } else {
            trial.before
        };
        match (up, verdict) {
            // It pays: go on in this direction.
            (true, Verdict::Higher) => {
                self.step = (self.limit - trial.base) * 2.0;
                if self.doubling {
                    self.paid = self.limit;
                }
                self.patience = PATIENCE[0];
                self.up(careful, now);
            }
            (false, Verdict::Lower(gain)) => {
                self.patience = PATIENCE[0];
                if gain > SAME {
                    self.set((self.limit * gain).ceil().min(trial.base), now);
                    self.paid = self.limit;
                    (self.down, self.wait, self.step) = (false, self.patience, 1.0);
                } else {
                    self.paid = 0.0;
                    self.lower((self.limit / 2.0).floor(), now);
                }
            }
            (true, _) => {
                if let Verdict::Lower(gain) = verdict {
                    // As much is served without a queue by as many slots.
                    let slots = if gain > SAME { trial.base * gain } else { trial.base };
                    self.set(slots.ceil().min(self.limit), now);
                }
                self.down = trial.base > self.paid;
                if !self.down {
                    self.paid = self.limit;
                }
                (self.wait, self.step) = (self.patience, 1.0);
                self.patience = (self.patience * 2).min(PATIENCE[1]);
                if std::mem::take(&mut self.doubling) && self.down {
                    // No lower limit than the first was tried yet, and the first requests found an empty queue.
                    self.here = Replies::default();
                    self.wait = 0;
                }
            }
            (false, _) => {
                self.set(trial.base, now);
                self.paid = self.limit;
                (self.down, self.wait, self.step) = (false, self.patience, 1.0);
            }
        }
    }
}

/// Compares two limits. `share` scales the threshold: the part of the latency that a queue would add which counts as
/// one.
fn verdict(low: &Replies, lower: f64, high: &Replies, higher: f64, share: f64, sure: f64) -> Verdict {
    let ratio = higher / lower;
    let (slower, error) = low.slower(high);
    // With half of the additional slots in use, the throughput grows by half of what the limit does.
    let threshold = (2.0 * ratio / (1.0 + ratio)).ln() * share;
    if (slower - threshold).abs() < sure * error {
        Verdict::Undecided
    } else if slower <= threshold {
        Verdict::Higher
    } else {
        Verdict::Lower(ratio / slower.exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model server that serves `slots` requests at a time, in the order of arrival, and never rejects one.
    struct Server {
        law: ConcurrencyLimit,
        /// The times when the slots become free.
        slots: Vec<u64>,
        /// The ends, numbers and starts of the requests in flight.
        in_flight: Vec<(u64, u64, u64)>,
        next: u64,
        now: u64,
        random: u64,
    }

    impl Server {
        fn new(law: ConcurrencyLimit, slots: usize, seed: u64) -> Self {
            Self {
                law,
                slots: vec![0; slots],
                in_flight: Vec::new(),
                next: 0,
                now: 0,
                random: seed,
            }
        }

        fn random(&mut self) -> f64 {
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.random >> 33) as f64 / f64::from(1_u32 << 31)
        }

        /// Serves requests that take a second more or less, and returns the throughput as a share of the best one, and
        /// the average latency in seconds.
        fn serve(&mut self, requests: u64, noise: f64) -> (f64, f64) {
            let (begun, mut waited) = (self.now, 0);
            for _ in 0..requests {
                while self.in_flight.len() < self.law.limit() as usize {
                    let seconds = 1.0 + noise * (2.0 * self.random() - 1.0);
                    let slot = self.slots.iter_mut().min().unwrap();
                    *slot = (*slot).max(self.now) + (seconds * 1_000.0) as u64;
                    self.in_flight.push((*slot, self.next, self.now));
                    self.next += 1;
                }
                self.in_flight.sort_unstable();
                let (end, number, sent) = self.in_flight.remove(0);
                self.now = end;
                waited += end - sent;
                let sign = LoadSignal::Healthy {
                    full: true,
                    latency: (end - sent) as f64,
                    length: 0.0,
                };
                self.law.observe(end, Observed { number, sent }, self.next, sign);
            }
            let best = requests as f64 / self.slots.len() as f64;
            let seconds = (self.now - begun) as f64 / 1_000.0;
            (best / seconds, waited as f64 / 1_000.0 / requests as f64)
        }
    }

    #[test]
    fn a_server_that_queues_is_used_well_and_not_filled_whatever_its_slots() {
        for slots in [1, 2, 3, 4, 5, 6, 8, 11, 16, 24, 40, 64, 100] {
            for (noise, least) in [(0.0, 0.9), (0.2, 0.9), (0.5, 0.9)] {
                for seed in 0..2 {
                    let mut server = Server::new(ConcurrencyLimit::new(4, 1, 256), slots, seed);
                    server.serve(20 * slots as u64 + 60, noise);
                    let (share, latency) = server.serve(1_000 + 20 * slots as u64, noise);
                    let case = format!("{slots} slots, noise {noise}, seed {seed}");
                    assert!(share >= least, "a share of {share:.3} of the best throughput: {case}");
                    assert!(latency < 2.0, "a latency of {latency:.2}: {case}");
                }
            }
        }
    }

    #[test]
    fn the_limit_doubles_each_round_while_no_queue_grows() {
        let mut server = Server::new(ConcurrencyLimit::new(4, 1, 256), 10_000, 0);
        let mut limits = Vec::new();
        for second in 1..=7 {
            while server.now < second * 1_000 {
                server.serve(1, 0.0);
            }
            limits.push(server.law.limit());
            // The rest of the round.
            let rest = server
                .in_flight
                .iter()
                .filter(|(end, ..)| *end <= second * 1_000)
                .count();
            server.serve(rest as u64, 0.0);
        }
        assert_eq!(server.law.limit(), 256, "{limits:?}");
    }

    #[test]
    fn slots_that_come_and_go_are_followed() {
        let mut server = Server::new(ConcurrencyLimit::new(4, 1, 256), 16, 1);
        server.serve(500, 0.2);
        server.slots.truncate(4);
        server.serve(300, 0.2);
        let (share, latency) = server.serve(400, 0.2);
        assert!(share >= 0.9 && latency < 2.0, "{share:.3} {latency:.2}");
        server.slots = vec![0; 32];
        server.serve(1_500, 0.2);
        let (share, latency) = server.serve(1_000, 0.2);
        assert!(share >= 0.9 && latency < 2.0, "{share:.3} {latency:.2}");
    }

    const FULL: LoadSignal = LoadSignal::Healthy {
        full: true,
        latency: 1_000.0,
        length: 100.0,
    };

    const IDLE: LoadSignal = LoadSignal::Healthy {
        full: false,
        latency: 1_000.0,
        length: 100.0,
    };

    fn answer(law: &mut ConcurrencyLimit, now: u64, count: u32) {
        for _ in 0..count {
            law.observe(
                now,
                Observed {
                    number: 1_000,
                    sent: now,
                },
                1_000,
                FULL,
            );
        }
    }

    fn refuse(law: &mut ConcurrencyLimit, now: u64, number: u64, next: u64) -> bool {
        law.observe(now, Observed { number, sent: now }, next, LoadSignal::Refused)
    }

    #[test]
    fn places_that_nobody_uses_are_no_reason_to_grow() {
        let mut law = ConcurrencyLimit::new(4, 1, 20);
        for _ in 0..100 {
            law.observe(0, Observed { number: 0, sent: 0 }, 0, IDLE);
        }
        assert_eq!(law.limit(), 4);
        answer(&mut law, 0, 4);
        assert_eq!(law.limit(), 8);
    }

    #[test]
    fn a_ceiling_below_the_start_holds_from_the_start() {
        assert_eq!(ConcurrencyLimit::new(4, 1, 2).limit(), 2);
        assert_eq!(ConcurrencyLimit::new(1_000, 1_000, 256).limit(), 256);
    }

    #[test]
    fn a_burst_that_is_refused_halves_once_and_never_below_one() {
        let mut law = ConcurrencyLimit::new(16, 1, 64);
        for number in 0..16 {
            assert_eq!(refuse(&mut law, 0, number, 16), number == 0);
        }
        assert_eq!(law.limit(), 8);
        // What is refused next was sent alone, to ask whether the service is back.
        assert!(refuse(&mut law, 0, 16, 17));
        assert_eq!((law.limit(), law.cuts_in_a_row()), (8, 2));
        // After an answer, a refusal counts again.
        answer(&mut law, 0, 1);
        assert_eq!(law.cuts_in_a_row(), 0);
        for number in 0..8 {
            refuse(&mut law, 0, 2_000 + number, 2_001 + number);
            law.observe(0, Observed { number: 9_000, sent: 0 }, 9_000, IDLE);
        }
        assert_eq!(law.limit(), 1);
    }

    #[test]
    fn growth_is_careful_after_a_refusal_and_bolder_after_a_calm_minute() {
        let grown = |now| {
            let mut law = ConcurrencyLimit::new(64, 1, 1_000);
            refuse(&mut law, 0, 0, 1);
            let before = law.limit();
            answer(&mut law, now, before);
            law.limit() - before
        };
        assert_eq!(grown(1_000), 1);
        assert!(grown(CAREFUL) >= 8);
    }

    #[test]
    fn a_queue_lowers_the_limit_no_further_than_the_operator_allows() {
        let mut server = Server::new(ConcurrencyLimit::new(12, 12, 256), 4, 0);
        server.serve(500, 0.2);
        assert!(server.law.limit() >= 12);
        let next = server.next;
        refuse(&mut server.law, server.now, next, next + 1);
        assert!(server.law.limit() < 12, "a refusal does");
    }
}
