//! The refusals of each rule and their messages; the strictest of several files wins.

use super::*;
use crate::signature::{SecretKey, sign};
use crate::statement::Statement;
use crate::testing::{key, plugin};
use crate::vetted::VetFile;
use agenthost_core::error::{Classify as _, ErrorClass, with_causes};
use agenthost_plugin::Digest;

const BYTES: &[u8] = b"the bytes of a component";

/// The policies and vet files of one test, with keys to sign with.
struct Bench {
    dir: tempfile::TempDir,
    env: Env,
    plugin: Plugin,
    acme: (SecretKey, PublicKey),
    other: (SecretKey, PublicKey),
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            env: Env::new(Default::default(), dir.path(), None),
            dir,
            plugin: plugin("acme:competitor", "1.2.0", BYTES),
            acme: key(),
            other: key(),
        }
    }

    /// Loads a policy of these files; `ACME` and `OTHER` are replaced by keys.
    fn policy(&self, texts: &[&str]) -> Policy {
        self.load(texts).unwrap()
    }

    fn load(&self, texts: &[&str]) -> Result<Policy, PolicyError> {
        let file = |(n, text): (usize, &&str)| {
            let text = text
                .replace("ACME", &self.acme.1.to_string())
                .replace("OTHER", &self.other.1.to_string());
            let path = PathBuf::from(format!("policy-{n}.toml"));
            std::fs::write(self.dir.path().join(&path), format!("format = 1\n{text}")).unwrap();
            path
        };
        let files = texts.iter().enumerate().map(file).collect::<Vec<_>>();
        Policy::load(&self.env, &files)
    }

    fn sign(&self, key: &(SecretKey, PublicKey)) -> String {
        sign(&key.0, BYTES, &Statement::of(&self.plugin).unwrap()).unwrap()
    }

    fn entry(&self) -> Vetted {
        let asks = Asks::of(&self.plugin);
        let name = self.plugin.id.name.parse().unwrap();
        Vetted::new(name, "1.2.0".parse().unwrap(), self.plugin.digest, "Ada", asks)
    }

    /// Records an entry in a file of the bench and reads it back.
    fn vetted(&self, file: &str, entry: Vetted) -> Vec<Vetted> {
        VetFile::record(&self.env, Path::new(file), entry).unwrap();
        VetFile::load(&self.env, Path::new(file)).unwrap().entries().to_vec()
    }

    fn judge(
        &self,
        policy: &Policy,
        origin: Origin,
        signatures: &[String],
        vetted: &[Vetted],
    ) -> Result<PolicyDecision, PolicyError> {
        policy.judge(&Candidate {
            plugin: &self.plugin,
            bytes: BYTES,
            origin,
            signatures,
            vetted: Some(&vetted.iter().collect::<Vec<_>>()),
        })
    }

    /// Returns the message and hint of the refusal of a reference.
    fn refusal(&self, policy: &Policy, signatures: &[String], vetted: &[Vetted]) -> (String, String) {
        let error = self.judge(policy, reference(), signatures, vetted).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied);
        (with_causes(&error), error.hint().unwrap_or_default().to_owned())
    }
}

fn reference() -> Origin {
    Origin::Reference {
        place: "127.0.0.1:5000/plugins/acme/competitor".into(),
    }
}

fn path() -> Origin {
    Origin::Path("plugins/competitor.wasm".into())
}

const ACME: &str = "[signers.acme]\nkey = \"ACME\"\npublishes = [\"acme:*\"]\n";

#[test]
fn a_refusal_has_the_rule_and_its_place() {
    let bench = Bench::new();
    let refusal = |policy: &Policy, signatures: &[String]| match bench.judge(policy, reference(), signatures, &[]) {
        Err(PolicyError::Refused { refusal, .. }) => *refusal,
        other => panic!("{other:?}"),
    };
    match refusal(&bench.policy(&["[references]\nunsigned = \"deny\""]), &[]) {
        Refusal::Unsigned { rule } => {
            assert_eq!((rule.section, rule.key), ("references", "unsigned"));
            assert_eq!(rule.place.map(|place| place.line()), Some(3));
        }
        other => panic!("{other:?}"),
    }
    match refusal(&bench.policy(&[ACME]), &[bench.sign(&bench.other)]) {
        Refusal::UnknownSigner { keys, rule, .. } => {
            assert_eq!(
                (keys, rule.place),
                (vec![bench.other.1.id()], None),
                "the default refuses"
            );
        }
        other => panic!("{other:?}"),
    }
    match refusal(&bench.policy(&[ACME]), &[bench.sign(&bench.acme)]) {
        Refusal::Unvetted {
            plugin, required: None, ..
        } => assert_eq!(plugin, "acme:competitor@1.2.0"),
        other => panic!("{other:?}"),
    }
    match refusal(&bench.policy(&["deny = [\"acme:*\"]"]), &[]) {
        Refusal::Denied { entry, place } => assert_eq!((entry.as_str(), place.line()), ("acme:*", 2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_file_references_are_refused_and_paths_run() {
    let bench = Bench::new();
    let policy = bench.policy(&[]);
    assert_eq!((policy.keys(), policy.vet_files()), (vec![], vec![]));
    let (message, hint) = bench.refusal(&policy, &[], &[]);
    assert_eq!(
        message,
        "acme:competitor 1.2.0 may not run: it is not signed, and [references] unsigned = \"deny\" (the default, as no \
         policy file says otherwise)"
    );
    assert_eq!(
        hint,
        "Ask its publisher for a signature, or write unsigned = \"allow\" under [references] in \
         agenthost-policy.toml."
    );
    let verdict = bench.judge(&policy, path(), &[], &[]).unwrap();
    assert_eq!(
        verdict.notes,
        [] as [String; 0],
        "who has no policy has asked for no remarks"
    );
    assert_eq!(
        (verdict.signer, verdict.vetted_by, verdict.models),
        (None, vec![], None)
    );
    assert_eq!(verdict.max, Limits::none());
}

#[test]
fn what_is_signed_and_vetted_runs() {
    let bench = Bench::new();
    let policy = bench.policy(&[&format!("vetted = [\"vetted.toml\", \"more/vetted.toml\"]\n{ACME}")]);
    assert_eq!(policy.keys(), [bench.acme.1]);
    let files = ["vetted.toml", "more/vetted.toml"].map(|file| bench.dir.path().join(file));
    assert_eq!(policy.vet_files(), files);
    let vetted = bench.vetted("vetted.toml", bench.entry());
    let verdict = bench
        .judge(&policy, reference(), &[bench.sign(&bench.acme)], &vetted)
        .unwrap();
    assert_eq!(verdict.signer, Some(("acme".to_owned(), bench.acme.1)));
    assert_eq!((verdict.vetted_by, verdict.notes), (vec!["Ada".to_owned()], vec![]));
}

#[test]
fn a_refusal_of_a_signature_says_whose_it_is_and_what_to_add() {
    let bench = Bench::new();
    let policy = bench.policy(&[&format!("[references]\nunsigned = \"deny\"\n{ACME}")]);
    let (message, hint) = bench.refusal(&policy, &[bench.sign(&bench.other)], &[]);
    let id = bench.other.1.id();
    assert_eq!(
        message,
        format!(
            "acme:competitor 1.2.0 may not run: it is signed by the key {id}, which no signer in policy-0.toml has, and \
             [references] unsigned = \"deny\" (policy-0.toml:3)"
        )
    );
    assert!(
        hint.ends_with("to policy-0.toml:\n\n[signers.acme]\nkey = \"RW…\"\npublishes = [\"acme:competitor\"]"),
        "{hint}"
    );
    let policy = bench.policy(&["[signers.acme]\nkey = \"ACME\"\npublishes = [\"demo:*\", \"acme:x\"]"]);
    let (message, hint) = bench.refusal(&policy, &[bench.sign(&bench.acme)], &[]);
    assert!(
        message.contains("its signer acme may publish demo:*, acme:x (policy-0.toml:2), and"),
        "{message}"
    );
    assert_eq!(
        hint,
        "If acme may publish it, add \"acme:competitor\" to `publishes` under [signers.acme] in policy-0.toml."
    );
    let (message, _) = bench.refusal(&bench.policy(&[]), &[bench.sign(&bench.acme)], &[]);
    assert!(message.contains("and no policy file has [signers]"), "{message}");
    // A changed signature is refused whatever is allowed.
    let policy = bench.policy(&[&format!(
        "[references]\nunsigned = \"allow\"\nunvetted = \"allow\"\n{ACME}"
    )]);
    let changed = bench.sign(&bench.acme).replacen("1.2.0\"", "1.3.0\"", 1);
    for origin in [reference(), path()] {
        let error = bench
            .judge(&policy, origin, std::slice::from_ref(&changed), &[])
            .unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied);
        assert!(with_causes(&error).contains("does not verify"), "{error}");
    }
}

#[test]
fn a_refusal_of_what_nobody_vetted_says_how_to_vet() {
    let bench = Bench::new();
    let signed = [bench.sign(&bench.acme)];
    let (message, hint) = bench.refusal(&bench.policy(&[ACME]), &signed, &[]);
    assert_eq!(
        message,
        "acme:competitor 1.2.0 may not run: it is not vetted, and [references] unvetted = \"deny\" (the default, as \
         no policy file says otherwise)"
    );
    assert_eq!(
        hint,
        "Look at it and vouch for it, or write unvetted = \"allow\" under [references] in \
         agenthost-policy.toml."
    );
    let policy = bench.policy(&["vetted = [\"vetted.toml\"]\n[paths]\nunvetted = \"deny\""]);
    let error = bench.judge(&policy, path(), &[], &[]).unwrap_err();
    assert!(
        with_causes(&error).ends_with("[paths] unvetted = \"deny\" (policy-0.toml:4)"),
        "{error}"
    );
    let hint = error.hint().unwrap();
    assert!(hint.starts_with("Look at it and vouch for it, or"), "{hint}");

    // An entry for other bytes does not count, and an entry with false content is refused.
    let policy = bench.policy(&[&format!("vetted = [\"vetted.toml\"]\n{ACME}")]);
    let wrong = |change: fn(&mut Vetted)| {
        let mut entry = bench.entry();
        change(&mut entry);
        let _ = std::fs::remove_file(bench.dir.path().join("vetted.toml"));
        let vetted = bench.vetted("vetted.toml", entry);
        bench.refusal(&policy, &signed, &vetted).0
    };
    assert!(wrong(|entry| entry.digest = Digest::of(b"other")).contains("it is not vetted"));
    let message = wrong(|entry| entry.plugin = "acme:other".parse().unwrap());
    assert!(
        message.ends_with("vetted.toml:5 has its digest, but describes something else: it is acme:other"),
        "{message}"
    );
    let message = wrong(|entry| entry.version = "1.2.1".parse().unwrap());
    assert!(message.ends_with("it is version 1.2.1"), "{message}");
    let message = wrong(|entry| entry.asks.imports.clear());
    assert!(
        message.ends_with("it asks for something else: + import: agenthost:plugin/llm@0.1.0"),
        "{message}"
    );
}

#[test]
fn what_is_denied_runs_nowhere() {
    let bench = Bench::new();
    let digest = format!("deny = [\"demo:x\", \"{}\"]", Digest::of(BYTES));
    for (deny, hit) in [
        ("deny = [\"acme:competitor\"]", Some("acme:competitor")),
        ("deny = [\"acme:*\"]", Some("acme:*")),
        ("deny = [\"acme:competitor@1.2.0\"]", Some("acme:competitor@1.2.0")),
        (
            "deny = [\"acme:competitor@1.2.0+built\"]",
            Some("acme:competitor@1.2.0+built"),
        ),
        (digest.as_str(), Some("sha256:")),
        ("deny = [\"acme:competitor@1.2.1\", \"acme:comp\", \"acm:*\"]", None),
    ] {
        let policy = bench.policy(&["", deny]);
        let verdict = bench.judge(&policy, path(), &[], &[]);
        let Some(hit) = hit else {
            verdict.unwrap();
            continue;
        };
        let error = verdict.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Denied);
        let start = format!("acme:competitor 1.2.0 may not run: `deny` has {hit}");
        assert!(with_causes(&error).starts_with(&start), "{error}");
        assert!(with_causes(&error).ends_with("(policy-1.toml:2)"), "{error}");
    }
    let mut unversioned = Bench::new();
    unversioned.plugin.manifest = None;
    unversioned.plugin.id.version = None;
    let policy = unversioned.policy(&["deny = [\"acme:competitor@1.2.0\"]"]);
    assert!(
        unversioned.judge(&policy, path(), &[], &[]).is_err(),
        "it may be that one"
    );
}

#[test]
fn the_ceilings_of_tools_apply_together_and_keep_their_places() {
    let bench = Bench::new();
    let one = "[max]\nserver-tools = [\"web-search\", \"web-fetch\"]\n\
               [max-for.\"acme:*\"]\nserver-tools = { web-search = { max-uses = 3, allowed-domains = [\"a.com\"] } }";
    let other = "[max]\nserver-tools.web-search.max-uses = 4\n[max-for.\"demo:*\"]\nserver-tools = []";
    let max = |texts: &[&str], name: &str| bench.policy(texts).max(name);
    let shown = |max: &PolicyMax| max.server_tools().map(|tools| tools.to_string());
    assert_eq!(shown(&max(&[], "acme:competitor")), None);
    assert_eq!(
        shown(&max(&["[max]\ncalls = 1"], "acme:competitor")),
        None,
        "no file sets one"
    );
    let both = max(&[one, other], "acme:competitor");
    assert_eq!(
        shown(&both).as_deref(),
        Some("web-search (3 uses a call, only a.com)"),
        "the narrowest"
    );
    let rules = both.server_tools.iter();
    let rules: Vec<_> = rules.map(|rule| format!("{} {}", rule.table, rule.place)).collect();
    assert_eq!(
        rules,
        [
            "max policy-0.toml:3",
            "max-for.\"acme:*\" policy-0.toml:5",
            "max policy-1.toml:3"
        ]
    );
    assert_eq!(
        shown(&max(&[one, other], "demo:x")).as_deref(),
        Some("none"),
        "an empty list allows none"
    );
    let verdict = bench.judge(&bench.policy(&[one, other]), path(), &[], &[]).unwrap();
    assert_eq!(verdict.server_tools, both.server_tools);
}

#[test]
fn of_several_files_the_stricter_wins() {
    let bench = Bench::new();
    let allow = "[references]\nunsigned = \"allow\"\nunvetted = \"allow\"\n";
    let deny = "[references]\nunsigned = \"deny\"\nunvetted = \"deny\"\n";
    // A missing setting has no effect; a refusal in any file is a refusal.
    bench.judge(&bench.policy(&[allow, ""]), reference(), &[], &[]).unwrap();
    for texts in [[allow, deny], [deny, allow]] {
        let (message, _) = bench.refusal(&bench.policy(&texts), &[], &[]);
        assert!(message.contains("unsigned = \"deny\" (policy-"), "{message}");
    }

    // The smallest limits apply, only model names of all files are allowed, and the bound of a name never widens
    // anything.
    let one = "[max]\ntokens = \"100k\"\ncalls = 10\nmodels = [\"fast\", \"strong\"]\n[max-for.\"acme:*\"]\ncalls = 20\ntimeout = \"1m\"\n";
    let other = "[max]\ntokens = \"200k\"\nmodels = [\"fast\", \"small\"]\n[max-for.\"acme:competitor\"]\ncalls = 5\ncost = \"none\"\n[max-for.\"demo:*\"]\ncalls = 1\n";
    let verdict = bench.judge(&bench.policy(&[one, other]), path(), &[], &[]).unwrap();
    let mut expected = Limits::none();
    expected.tokens = Some(100_000);
    expected.calls = Some(5);
    expected.timeout = Some(std::time::Duration::from_mins(1));
    assert_eq!(verdict.max, expected);
    assert_eq!(verdict.models, Some(["fast".to_owned()].into()));

    // Each file with signers requires one of its own.
    let open = "[references]\nunvetted = \"allow\"\n";
    let ours = format!("{open}{ACME}");
    let theirs = "[signers.platform]\nkey = \"OTHER\"\npublishes = [\"*\"]\n";
    let policy = bench.policy(&[&ours, theirs, ""]);
    let both = [bench.sign(&bench.acme), bench.sign(&bench.other)];
    let verdict = bench.judge(&policy, reference(), &both, &[]).unwrap();
    assert_eq!(verdict.signer, Some(("acme".to_owned(), bench.acme.1)));
    let (message, _) = bench.refusal(&policy, &both[..1], &[]);
    assert!(message.contains("which no signer in policy-1.toml has"), "{message}");
    let (message, _) = bench.refusal(&policy, &both[1..], &[]);
    assert!(message.contains("which no signer in policy-0.toml has"), "{message}");
    bench
        .judge(&bench.policy(&[&ours, ""]), reference(), &both[..1], &[])
        .unwrap();
}

#[test]
fn each_file_with_vet_files_wants_an_entry_of_its_own() {
    let bench = Bench::new();
    let signed = [bench.sign(&bench.acme)];
    let team = format!("vetted = [\"team.toml\"]\n{ACME}");
    let policy = bench.policy(&[&team, "vetted = [\"project.toml\"]\n"]);
    let (own, theirs) = (
        bench.vetted("project.toml", bench.entry()),
        bench.vetted("team.toml", bench.entry()),
    );
    let (message, _) = bench.refusal(&policy, &signed, &own);
    assert!(
        message.contains("it is not vetted in a file that policy-0.toml names"),
        "{message}"
    );
    bench.refusal(&policy, &signed, &theirs);
    bench.refusal(&policy, &signed, &[bench.entry()]);
    let both = [own, theirs.clone()].concat();
    let verdict = bench.judge(&policy, reference(), &signed, &both).unwrap();
    assert_eq!(verdict.vetted_by, ["Ada"]);
    bench
        .judge(&bench.policy(&[&team, ""]), reference(), &signed, &theirs)
        .unwrap();
}

#[test]
fn a_wrong_file_is_named_with_its_line() {
    let bench = Bench::new();
    for (text, why, hint) in [
        (
            "denny = []",
            "policy-0.toml:2: unknown key `denny` at the top level",
            "Did you mean `deny`?",
        ),
        (
            "[references]\nunsined = \"deny\"",
            "policy-0.toml:3: unknown key `unsined` in [references]",
            "Did you mean `unsigned`?",
        ),
        (
            "[paths]\nunvetted = true",
            "policy-0.toml:3: `unvetted` in [paths]: expected a string",
            "",
        ),
        (
            "[paths]\nunvetted = \"no\"",
            "policy-0.toml:3: `unvetted` in [paths]: `no` is not known; write allow or deny",
            "",
        ),
        (
            "[max]\ntoken = 5",
            "policy-0.toml:3: unknown key `token` in [max]",
            "Did you mean `tokens`?",
        ),
        ("[max]\ntokens = \"many\"", "policy-0.toml:3: `tokens` in [max]: ", ""),
        (
            "[max]\nserver-tools = { web-search = { max-uses = 500 } }",
            "policy-0.toml:3: `max-uses` in [max.server-tools.web-search]: `500` is not a number from 1 to 100",
            "",
        ),
        (
            "[max-for.\"a:b\".server-tools]\nshell = {}",
            "policy-0.toml:3: `shell` in [max-for.\"a:b\".server-tools]: `shell` is not a tool of a provider; the known ones are web-search and web-fetch",
            "Write server-tools = ",
        ),
        (
            "[max]\nmodels = [\"Fast\"]",
            "policy-0.toml:3: `models` in [max]: `Fast` is not a model name",
            "",
        ),
        (
            "[max-for.acme]\ntokens = 5",
            "policy-0.toml:2: `acme` in [max-for]: `acme` does not name plugins",
            "",
        ),
        (
            "[max-for.\"acme:*\"]\nfuels = 5",
            "policy-0.toml:3: unknown key `fuels` in [max-for.\"acme:*\"]",
            "Did you mean `fuel`?",
        ),
        (
            "deny = [\"acme:bad@1.2\"]",
            "policy-0.toml:2: `deny`: `1.2` is not a version",
            "Write a name",
        ),
        (
            "deny = [\"sha256:00\"]",
            "policy-0.toml:2: `deny`: `sha256:00` is not a digest",
            "Write a name",
        ),
        (
            "[signers.A]\nkey = \"ACME\"\npublishes = []",
            "policy-0.toml:2: `A` in [signers]: this is not a name",
            "",
        ),
        (
            "[signers.acme]\nkey = \"ACME\"",
            "policy-0.toml:2: `acme` in [signers]: it needs `key` and `publishes`",
            "Write it as",
        ),
        (
            "[signers.acme]\nkey = \"RW\"\npublishes = []",
            "policy-0.toml:3: `key` in [signers.acme]: not a minisign public key",
            "Write the line",
        ),
        (
            "[signers.acme]\nkey = \"ACME\"\npublishes = [\"acme:..\"]",
            "policy-0.toml:4: `publishes` in [signers.acme]: `acme:..` does not name plugins",
            "",
        ),
        (
            "[signers.acme]\nkey = \"ACME\"\npublishes = [\"аcme:*\"]",
            "policy-0.toml:4: `publishes` in [signers.acme]: ",
            "",
        ),
        (
            "vetted = \"vetted.toml\"",
            "policy-0.toml:2: `vetted`: expected a list of strings",
            "",
        ),
        ("format = 1", "policy-0.toml:2: duplicate key", ""),
    ] {
        let error = bench.load(&[text]).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Config, "{text}");
        assert!(with_causes(&error).starts_with(why), "{text}: {error}");
        assert!(
            error.hint().unwrap_or_default().starts_with(hint),
            "{text}: {:?}",
            error.hint()
        );
    }
    let file = |text: &str| {
        std::fs::write(bench.dir.path().join("p.toml"), text).unwrap();
        Policy::load(&bench.env, &["p.toml".into()]).unwrap_err().to_string()
    };
    assert_eq!(file("deny = []"), "p.toml:1: `format` is missing");
    assert_eq!(
        file("\nformat = 2"),
        "p.toml:2: `format`: this version reads format 1, not 2"
    );
    let error = Policy::load(&bench.env, &["none.toml".into()]).unwrap_err();
    assert!(
        with_causes(&error).starts_with("cannot read none.toml: No such file"),
        "{error}"
    );
}

#[test]
fn the_examples_of_the_documents_load() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policy.md");
    let text = std::fs::read_to_string(document).unwrap();
    let blocks = text
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let (policies, vetted): (Vec<_>, Vec<_>) = blocks.partition(|block| block.contains("[signers."));
    let bench = Bench::new();
    let load = |text: &str| {
        std::fs::write(bench.dir.path().join("p.toml"), text).unwrap();
        Policy::load(&bench.env, &["p.toml".into()]).unwrap()
    };
    assert_eq!((policies.len(), vetted.len()), (1, 1));
    let policy = load(policies[0]);
    assert_eq!((policy.keys().len(), policy.vet_files().len()), (1, 2));
    std::fs::write(bench.dir.path().join("v.toml"), vetted[0]).unwrap();
    let file = VetFile::load(&bench.env, Path::new("v.toml")).unwrap();
    assert_eq!(file.entries()[0].checks, ["imports", "cassettes"]);
}
