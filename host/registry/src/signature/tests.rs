//! Round trips, changed bytes, and which keys' signatures count.

use super::*;
use crate::testing::{key, plugin};
use agenthost_core::error::{Classify as _, ErrorClass, with_causes};

const BYTES: &[u8] = b"the bytes of a component";

fn signed(secret: &SecretKey) -> String {
    let plugin = plugin("acme:competitor", "1.2.0", BYTES);
    sign(secret, BYTES, &Statement::of(&plugin).unwrap()).unwrap()
}

/// Signs as the minisign tool does.
fn signed_by_tool(secret: &SecretKey, comment: &str, untrusted: &str) -> String {
    let signed = minisign::sign(None, secret.secret(), BYTES, Some(comment), Some(untrusted));
    signed.unwrap().into_string()
}

#[test]
fn what_is_signed_verifies_and_says_who_and_what() {
    let (secret, public) = key();
    let text = signed(&secret);
    assert!(
        text.starts_with("untrusted comment: signature of acme:competitor 1.2.0\nRU"),
        "{text}"
    );
    assert!(
        text.is_ascii() && text.ends_with("==\n") && text.lines().count() == 4,
        "{text}"
    );
    let signature = Signature::parse(&text).unwrap();
    assert_eq!(signature.key_id(), public.id());
    let verified = signature.verify(&public, BYTES).unwrap();
    let plugin = plugin("acme:competitor", "1.2.0", BYTES);
    assert_eq!(verified.statement, Some(Statement::of(&plugin).unwrap()));
    assert_eq!(verified.key, public);

    let (_, other) = key();
    let error = signature.verify(&other, BYTES).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied);
    let expected = format!("the signature is of the key {}, not of {}", public.id(), other.id());
    assert_eq!(with_causes(&error), expected);
    let statement = Statement::of(&plugin).unwrap();
    assert_eq!(
        sign(&secret, b"others", &statement).unwrap_err().class(),
        ErrorClass::Denied
    );
}

#[test]
fn no_byte_of_a_signature_can_be_another() {
    let (secret, public) = key();
    let text = signed(&secret);
    let opened = |text: &[u8]| -> Result<Verified, SignatureError> {
        let text = std::str::from_utf8(text).map_err(|_| SignatureError::Broken { problem: "not text" })?;
        Signature::parse(text)?.verify(&public, BYTES)
    };
    opened(text.as_bytes()).unwrap();
    for at in 0..text.len() {
        for flip in [1, 2, 4, 8, 16, 32, 64] {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= flip;
            assert!(opened(&changed).is_err(), "byte {at} with {flip}");
        }
        assert!(opened(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        let inserted = [&text.as_bytes()[..at], b"\n", &text.as_bytes()[at..]].concat();
        assert!(opened(&inserted).is_err(), "a line feed at {at}");
    }
    for more in ["\n", "x", "\r\n"] {
        assert!(opened(format!("{text}{more}").as_bytes()).is_err());
    }
    assert!(opened(text.replace('\n', "\r\n").as_bytes()).is_err());
}

#[test]
fn anything_at_all_is_read_without_a_panic() {
    let line = |len: usize| BASE64.encode(vec![b'E'; len]);
    for text in [
        String::new(),
        "\n\n\n\n".into(),
        "untrusted comment: \n\ntrusted comment: \n\n".into(),
        format!("untrusted comment: a\n{}\ntrusted comment: b\n{}\n", line(74), line(64)),
        format!("untrusted comment: a\n{}\ntrusted comment: b\n{}\n", line(9), line(64)),
        format!("untrusted comment: a\n{}\ntrusted comment: b\n{}\n", line(74), line(63)),
        format!(
            "untrusted comment: \u{1b}[2J\n{}\ntrusted comment: b\n{}\n",
            line(74),
            line(64)
        ),
        "é".repeat(9_000),
    ] {
        let error = Signature::parse(&text).unwrap_err();
        assert!(with_causes(&error).starts_with("the signature is broken: "), "{error}");
        assert_eq!(error.class(), ErrorClass::Denied);
    }
}

#[test]
fn a_signature_without_a_statement_says_nothing_more() {
    let (secret, public) = key();
    let text = signed_by_tool(&secret, "timestamp:1\tfile:plugin.wasm\thashed", "mine");
    let verified = Signature::parse(&text).unwrap().verify(&public, BYTES).unwrap();
    assert_eq!(
        (verified.statement, verified.comment.as_str()),
        (None, "timestamp:1\tfile:plugin.wasm\thashed")
    );
}

#[test]
fn a_statement_that_the_public_tool_signed_counts() {
    let (secret, public) = key();
    let statement = Statement::of(&plugin("acme:competitor", "1.2.0", BYTES)).unwrap();
    let comment = statement.text().unwrap();
    let with = |untrusted: &str| {
        let text = signed_by_tool(&secret, &comment, untrusted);
        Signature::parse(&text).unwrap().verify(&public, BYTES)
    };
    assert_eq!(with(TOOL_COMMENT).unwrap().statement, Some(statement));
    let error = with("signature of acme:competitor 1.3.0").unwrap_err();
    assert!(
        with_causes(&error).contains("the first line of the signature"),
        "{error}"
    );
    let broken = signed_by_tool(&secret, "{\"agenthost\":1}", TOOL_COMMENT);
    let error = Signature::parse(&broken).unwrap().verify(&public, BYTES).unwrap_err();
    assert!(
        with_causes(&error).starts_with("the signed statement cannot be read"),
        "{error}"
    );
}

#[test]
fn the_old_form_is_refused() {
    // Made with `minisign -S -l` over these bytes.
    let key: PublicKey = "RWTYOOhod0SVv7UbPLn8we+4gUU8JTlaqbx4H9LX/n4rufrYWct4mRCl"
        .parse()
        .unwrap();
    let text = "untrusted comment: signature from minisign secret key\n\
        RWTYOOhod0SVv2KOINQoR1qsBMW3V+QmlJza3ZrCRoy3xAVEunDTak6eR0pZgPT+zKPlRkwJKFGK8I4F8j70yzTG5hoDzdWqTQg=\n\
        trusted comment: timestamp:1795434571\tfile:f\n\
        stFS6+RHe8o7uIM1N62Os1620HJGjcFnP+vXT5iM8HCCI2RES/WeQpcZNBmHPqZ1VLdZqGuHqVvFtzVgVBlwDw==\n";
    let error = Signature::parse(text).unwrap().verify(&key, b"hi\n").unwrap_err();
    assert_eq!(error.class(), ErrorClass::Denied);
    assert!(with_causes(&error).ends_with("which is not prehashed"), "{error}");
}

#[test]
fn only_known_keys_count_and_theirs_must_be_right() {
    let ((ours, our_key), (theirs, their_key), (_, nobody)) = (key(), key(), key());
    let plugin = plugin("acme:competitor", "1.2.0", BYTES);
    let both = [signed(&theirs), signed(&ours)];
    let who = |signatures: &[String], keys: &[PublicKey]| {
        let found = check(signatures, keys, &plugin, BYTES).map_err(|error| with_causes(&error))?;
        Ok::<_, String>(found.iter().map(|verified| verified.key).collect::<Vec<_>>())
    };
    assert_eq!(who(&both, &[our_key, their_key]), Ok(vec![their_key, our_key]));
    assert_eq!(who(&both, &[our_key]), Ok(vec![our_key]));
    assert_eq!(who(&both, &[nobody]), Ok(vec![]));
    assert_eq!(who(&[], &[our_key]), Ok(vec![]));

    // A changed byte in a known key's signature is an error, even beside a valid signature.
    let changed = signed(&ours).replacen("\"version\":\"1.2.0\"", "\"version\":\"1.3.0\"", 1);
    let error = who(&[changed.clone(), signed(&theirs)], &[our_key, their_key]).unwrap_err();
    assert!(error.contains("does not verify"), "{error}");
    assert_eq!(who(&[changed, signed(&theirs)], &[their_key]), Ok(vec![their_key]));

    // A valid signature about another plugin.
    let other = crate::testing::plugin("acme:competitor", "1.3.0", BYTES);
    let text = sign(&ours, BYTES, &Statement::of(&other).unwrap()).unwrap();
    let error = who(&[text], &[our_key]).unwrap_err();
    assert!(error.contains("the signed statement has the version 1.3.0"), "{error}");

    assert!(
        who(&["x".to_owned()], &[our_key])
            .unwrap_err()
            .contains("the signature is broken")
    );
    let many = vec![signed(&ours); MAX_SIGNATURES + 1];
    assert!(who(&many, &[our_key]).unwrap_err().contains("33 signatures"));
    let error = check(&both, &[our_key], &plugin, b"others").unwrap_err();
    assert!(with_causes(&error).contains("not the bytes"), "{error}");
}

#[test]
fn a_key_with_the_id_of_another_changes_nothing() {
    let (ours, our_key) = key();
    // A key with the same id that signed nothing.
    let mut bytes = BASE64.decode(our_key.to_string()).unwrap();
    let (_, other) = key();
    bytes[10..].copy_from_slice(&BASE64.decode(other.to_string()).unwrap()[10..]);
    let twin: PublicKey = BASE64.encode(bytes).parse().unwrap();
    assert_eq!(twin.id(), our_key.id());
    let plugin = plugin("acme:competitor", "1.2.0", BYTES);
    for keys in [[twin, our_key], [our_key, twin]] {
        let found = check(&[signed(&ours)], &keys, &plugin, BYTES).unwrap();
        assert_eq!(found[0].key, our_key);
    }
    assert!(check(&[signed(&ours)], &[twin], &plugin, BYTES).is_err());
}
