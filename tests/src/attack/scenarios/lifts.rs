//! Texts that the host lifts out of a guest's memory, drawn at random.
//!
//! A run gets an area of memory: a list of texts, and bytes that each text points to. Most texts are right, with
//! characters from the edges of every length; some are broken in one of many ways. The expected result of an area is
//! known here, from a second reading that shares nothing with the engine's: exactly these texts, or a trap at the first
//! that is broken.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agenthost::task::FailureClass;
use agenthost::{Host, Plugin};
use serde_json::json;
use wit_component::StringEncoding;

use super::super::component::component_with;
use super::super::run::{Measured, Program};
use super::{Panics, Random};

/// Texts that are lifted, and for a soak.
const TEXTS: u64 = 100_000;
const SOAK: u64 = 10_000_000;
/// Runs at a time.
const WORKERS: u64 = 8;
/// Texts of an area, and one in how many is broken.
const LIST: u64 = 32;
const BROKEN_IN: u64 = 16;
/// Where a guest's areas begin, and the bytes of its memory.
const AREA: u32 = 1024;
const MEMORY: u64 = 65_536;
/// The bit of a length that marks a text as UTF-16 and not Latin-1.
const WIDE: u32 = 1 << 31;

/// Characters at the edges of the lengths and ranges of UTF-8 and UTF-16.
const EDGES: [char; 16] = [
    '\0',
    'a',
    '\u{7f}',
    '\u{80}',
    '\u{a0}',
    '\u{ff}',
    '\u{100}',
    '\u{7ff}',
    '\u{800}',
    '\u{d7ff}',
    '\u{e000}',
    '\u{feff}',
    '\u{fffe}',
    '\u{ffff}',
    '\u{10000}',
    '\u{10ffff}',
];

/// Lifts texts that guests return and texts that they pass to the host, in all encodings.
pub(super) fn texts_random(program: &Program) -> Measured {
    let mut measured = Measured::default();
    let wanted = if program.soaks { SOAK } else { TEXTS };
    let host = Host::builder().build().unwrap();
    let mut plugins = Vec::new();
    for encoding in [
        StringEncoding::UTF8,
        StringEncoding::UTF16,
        StringEncoding::CompactUTF16,
    ] {
        for (guest, returns) in [("texts-returned", true), ("texts-passed", false)] {
            let plugin = host.load_bytes(&component_with(guest, encoding)).unwrap();
            plugins.push((encoding, returns, plugin));
        }
    }
    let bench = Arc::new(Bench {
        host,
        plugins,
        wanted,
        next: AtomicU64::new(0),
        lifted: AtomicU64::new(0),
        broken: AtomicU64::new(0),
    });
    let panics = Panics::count();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let misses = runtime.block_on(async {
        let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(Arc::clone(&bench).work())).collect();
        let mut misses = Vec::new();
        for worker in workers {
            misses.extend(worker.await.unwrap().err());
        }
        misses
    });
    let (lifted, broken) = (
        bench.lifted.load(Ordering::Relaxed),
        bench.broken.load(Ordering::Relaxed),
    );
    measured.misses.extend(misses);
    let panics = panics.end();
    measured.expect(panics == 0, || format!("{panics} panics"));
    measured.expect(broken > lifted / 40, || {
        format!("only {broken} of {lifted} texts were broken")
    });
    measured.expect(bench.host.is_idle(), || "a task is left".into());
    measured.figure("texts", lifted as f64);
    measured.figure("broken-texts", broken as f64);
    measured.figure("text-panics", panics as f64);
    measured.ended = format!("{lifted} texts, {broken} broken");
    measured
}

struct Bench {
    host: Host,
    plugins: Vec<(StringEncoding, bool, Plugin)>,
    wanted: u64,
    next: AtomicU64,
    lifted: AtomicU64,
    broken: AtomicU64,
}

impl Bench {
    /// Runs areas until as many texts as are wanted were lifted.
    async fn work(self: Arc<Self>) -> Result<(), String> {
        while self.lifted.load(Ordering::Relaxed) < self.wanted {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            self.run(seed).await.map_err(|error| format!("area {seed}: {error}"))?;
        }
        Ok(())
    }

    async fn run(&self, seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        let (encoding, returns, plugin) = random.one_of(&self.plugins);
        let area = Area::draw(&mut random, *encoding);
        let texts = area.read(*encoding);
        let run = self.host.run(plugin, &json!(area.words)).start();
        let outcome = run.map_err(|error| error.to_string())?.outcome().await;
        let lifted = match &texts {
            Ok(texts) => {
                let expected = if *returns { json!(texts) } else { json!([]) };
                if outcome.ok() != Some(&expected) {
                    return Err(format!("{encoding:?} {expected} is right, and came out as {outcome:?}"));
                }
                texts.len() as u64
            }
            Err((at, why)) => {
                let class = outcome.failure().map(|failure| failure.class);
                if class != Some(FailureClass::Trapped) {
                    return Err(format!(
                        "{encoding:?} text {at} is broken ({why}), and the task ended as {outcome:?}"
                    ));
                }
                self.broken.fetch_add(1, Ordering::Relaxed);
                at + 1
            }
        };
        self.lifted.fetch_add(lifted, Ordering::Relaxed);
        Ok(())
    }
}

/// Memory from [`AREA`] on: where its list of texts is, how long that is, an address and a length for each text, bytes.
struct Area {
    words: Vec<u32>,
}

impl Area {
    fn draw(random: &mut Random, encoding: StringEncoding) -> Self {
        let count = random.below(LIST) as u32 + 1;
        let start = AREA + 8 + count * 8;
        let mut words = vec![AREA + 8, count];
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..count {
            let (mut text, mut length) = encoded(random, encoding);
            let odd = random.below(2) == 1;
            bytes.resize(
                bytes.len().next_multiple_of(2) + usize::from(odd && encoding == StringEncoding::UTF8),
                0,
            );
            let mut at = start + bytes.len() as u32;
            if random.below(BROKEN_IN) == 0 {
                spoil(random, &mut text, &mut at, &mut length);
            }
            // The place is that of the address if that was moved by one.
            let place = (at as usize).saturating_sub(start as usize);
            if (bytes.len()..bytes.len() + 2).contains(&place) {
                bytes.resize(place, 0);
            }
            bytes.extend(text);
            words.extend([at, length]);
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        words.extend(bytes.as_chunks().0.iter().copied().map(u32::from_le_bytes));
        Self { words }
    }

    /// The texts, or the number of the first that is broken and why.
    fn read(&self, encoding: StringEncoding) -> Result<Vec<String>, (u64, &'static str)> {
        let bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut texts = Vec::new();
        for number in 0..self.words[1] as usize {
            let (at, length) = (self.words[2 + number * 2], self.words[3 + number * 2]);
            let text = text(&bytes, at, length, encoding).map_err(|why| (number as u64, why))?;
            texts.push(text);
        }
        Ok(texts)
    }
}

/// A text that is right: its bytes and its length as an encoding counts it.
fn encoded(random: &mut Random, encoding: StringEncoding) -> (Vec<u8>, u32) {
    let mut text = String::new();
    let narrow = encoding == StringEncoding::CompactUTF16 && random.below(2) == 0;
    for _ in 0..random.below(6) {
        let character = match random.below(4) {
            0 => char::from_u32(random.below(0x11_0000) as u32).unwrap_or('x'),
            _ => *random.one_of(&EDGES),
        };
        let _ = match narrow {
            true => text.write_char(char::from(character as u32 as u8)),
            false => text.write_char(character),
        };
    }
    if encoding == StringEncoding::UTF8 {
        let length = text.len() as u32;
        return (text.into_bytes(), length);
    }
    if narrow {
        let bytes: Vec<u8> = text.chars().map(|character| character as u8).collect();
        let length = bytes.len() as u32;
        return (bytes, length);
    }
    let units: Vec<u16> = text.encode_utf16().collect();
    let wide = if encoding == StringEncoding::CompactUTF16 {
        WIDE
    } else {
        0
    };
    let length = units.len() as u32 | wide;
    (units.into_iter().flat_map(u16::to_le_bytes).collect(), length)
}

/// Breaks a text in one way, or changes it so that it may still be right.
fn spoil(random: &mut Random, text: &mut Vec<u8>, at: &mut u32, length: &mut u32) {
    let count = text.len() as u64;
    match random.below(14) {
        0 => *at = at.wrapping_add(1),
        1 => *at = *random.one_of(&[0, 1, 65_535, 65_536, 65_537, 1 << 31, u32::MAX - 1, u32::MAX]),
        2 => *length = *random.one_of(&[65_536, 1 << 30, WIDE, WIDE - 1, WIDE + 1, WIDE | 40_000, u32::MAX]),
        3 => *length ^= WIDE,
        4 => *length = length.wrapping_sub(1),
        5 => *length = length.wrapping_add(1 + random.below(4) as u32),
        // The end of memory, and one beyond it.
        6 => *at = MEMORY as u32 - (*length & !WIDE).min(64) * (1 + random.below(2) as u32) + random.below(2) as u32,
        7 if count > 0 => text[random.below(count) as usize] ^= 1 << random.below(8),
        8 if count > 0 => text[random.below(count) as usize] = random.below(256) as u8,
        9 => *text = random.bytes(count.max(2)),
        // Half surrogate pairs, and pairs the wrong way around.
        10 => {
            let unit = 0xd800 + random.below(0x800) as u16;
            overwrite(random, text, &unit.to_le_bytes());
        }
        // Surrogates as UTF-8 would write them, and what is too long or too high for it.
        11 => {
            let last = [0xed, 0xa0 + random.below(32) as u8, 0x80 + random.below(64) as u8];
            overwrite(random, text, &last);
        }
        12 => {
            let longs: [&[u8]; 13] = [
                &b"\xc0\x80"[..],
                b"\xc1\xbf",
                b"\xe0\x80\x80",
                b"\xe0\x9f\xbf",
                b"\xf0\x80\x80\x80",
                b"\xf0\x8f\xbf\xbf",
                b"\xf4\x90\x80\x80",
                b"\xf5\x80\x80\x80",
                b"\xf8\x88\x80\x80\x80",
                b"\xfe",
                b"\xff",
                b"\x80",
                b"\xe2\x82",
            ];
            let long = *random.one_of(&longs);
            overwrite(random, text, long);
        }
        _ => {
            let (from, to) = (random.below(count + 1) as usize, random.below(count + 1) as usize);
            text.rotate_left(from.min(to));
        }
    }
}

/// Puts these bytes over those of a text, from one of its even places on; it gets no longer.
fn overwrite(random: &mut Random, text: &mut [u8], with: &[u8]) {
    let place = random.below(text.len() as u64 + 1) as usize & !1;
    for (byte, with) in text.iter_mut().skip(place).zip(with) {
        *byte = *with;
    }
}

/// Reads a text by the rules of the canonical ABI. Beyond the area, memory is zero.
fn text(area: &[u8], at: u32, length: u32, encoding: StringEncoding) -> Result<String, &'static str> {
    let wide = match encoding {
        StringEncoding::UTF8 => false,
        StringEncoding::UTF16 => true,
        StringEncoding::CompactUTF16 => length & WIDE != 0,
    };
    let units = match encoding {
        StringEncoding::CompactUTF16 => length & !WIDE,
        _ => length,
    };
    if encoding != StringEncoding::UTF8 && at % 2 == 1 {
        return Err("odd");
    }
    let bytes = u64::from(units) * if wide { 2 } else { 1 };
    if u64::from(at) + bytes > MEMORY {
        return Err("beyond memory");
    }
    let byte = |at: u64| {
        at.checked_sub(AREA.into())
            .and_then(|at| area.get(at as usize))
            .copied()
            .unwrap_or(0)
    };
    let bytes: Vec<u8> = (0..bytes).map(|offset| byte(u64::from(at) + offset)).collect();
    if wide {
        let units: Vec<u16> = bytes.as_chunks().0.iter().copied().map(u16::from_le_bytes).collect();
        return String::from_utf16(&units).map_err(|_| "a half surrogate pair");
    }
    match encoding {
        StringEncoding::CompactUTF16 => Ok(bytes.into_iter().map(char::from).collect()),
        _ => String::from_utf8(bytes).map_err(|_| "not UTF-8"),
    }
}
