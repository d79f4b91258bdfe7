//! Which credentials are sent to which server, and which server never receives them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{Source as _, Tag};
use agenthost_config::Env;

fn latest() -> Tag {
    Tag::Name("latest".into())
}

/// Returns the credentials for a registry from these variables and this docker configuration.
pub(super) async fn known(host: &str, vars: &[(&str, &str)], docker: Option<Value>) -> Credentials {
    let dir = tempfile::tempdir().unwrap();
    if let Some(config) = docker {
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    }
    let mut vars: std::collections::BTreeMap<_, _> = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    vars.insert("DOCKER_CONFIG".into(), dir.path().display().to_string());
    Credentials::find(&Env::new(vars, "/", None), host).await.unwrap()
}

fn manifest() -> Reply {
    Reply::new(200).body(manifest_of(COMPONENT).to_string())
}

/// Starts a registry with a token server at `/token`, which issues `token-1`, `token-2`, … for requests that `may`
/// accepts.
async fn with_tokens(may: fn(&Request) -> bool, good: fn(&str) -> bool) -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |request| {
        let authorization = request.header("authorization");
        if request.path() == "/token" {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            return match may(request) {
                true => Reply::json(&json!({"token": format!("token-{number}")})),
                false => Reply::complaint(401, "UNAUTHORIZED"),
            };
        }
        match authorization.strip_prefix("Bearer ") {
            Some(token) if good(token) => manifest(),
            _ => {
                let host = request.header("host");
                let challenge =
                    format!("Bearer realm=\"http://{host}/token\",service=\"registry, inc\",scope=\"other\"");
                Reply::complaint(401, "UNAUTHORIZED").with("www-authenticate", &challenge)
            }
        }
    })
    .await
}

#[tokio::test]
async fn name_and_password_of_docker_log_in_where_the_registry_asks() {
    let server = Server::start(|request| match request.header("authorization") {
        "Basic YWRhOm9wZW4=" => manifest(),
        _ => Reply::new(401).with("www-authenticate", "Basic realm=\"here\""),
    })
    .await;
    let host = server.host();
    let config = json!({"auths": {&host: {"auth": "YWRhOm9wZW4="}}});
    let oci_known = oci_as(&server, known(&host, &[], Some(config)).await);
    oci_known.find(&latest()).await.unwrap();
    oci_known.find(&latest()).await.unwrap();
    // Once without a header, once with it, and from then on always with it.
    let sent: Vec<_> = server
        .seen()
        .iter()
        .map(|request| request.headers.contains_key("authorization"))
        .collect();
    assert_eq!(sent, [false, true, true]);
    assert!(!format!("{oci_known:?}").contains("YWRh"));

    let wrong = json!({"auths": {&host: {"auth": "YWRhOnMzY3JldA=="}}});
    let error = oci_as(&server, known(&host, &[], Some(wrong)).await)
        .find(&latest())
        .await
        .unwrap_err();
    assert_error(
        &error,
        ErrorClass::Plugin,
        &["refuses the login", "config.json: 401", "docker login"],
    );
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_token_is_fetched_for_this_repository_and_used_until_it_ends() {
    static GOOD: AtomicUsize = AtomicUsize::new(1);
    let server = with_tokens(
        |request| request.header("authorization") == "Basic YWRhOm9wZW4=",
        |token| token == format!("token-{}", GOOD.load(Ordering::SeqCst)),
    )
    .await;
    let host = server.host();
    let vars = [
        ("AGENTHOST_REGISTRY", host.as_str()),
        ("AGENTHOST_REGISTRY_USERNAME", "ada"),
        ("AGENTHOST_REGISTRY_PASSWORD", "open"),
    ];
    let oci = oci_as(&server, known(&host, &vars, None).await);
    oci.find(&latest()).await.unwrap();
    oci.find(&latest()).await.unwrap();
    GOOD.store(2, Ordering::SeqCst);
    oci.find(&latest()).await.unwrap();
    let tokens: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|request| request.path() == "/token")
        .collect();
    assert_eq!(tokens.len(), 2);
    assert_eq!(
        tokens[0].query("scope").unwrap(),
        "repository:plugins/acme/competitor:pull"
    );
    assert_eq!(tokens[0].query("service").unwrap(), "registry, inc");
}

#[tokio::test]
async fn anybody_may_have_a_token_where_the_registry_says_so() {
    let server = with_tokens(|request| request.header("authorization").is_empty(), |_| true).await;
    oci(&server).find(&latest()).await.unwrap();
    let server = with_tokens(|_| false, |_| true).await;
    let error = oci(&server).find(&latest()).await.unwrap_err();
    assert_error(
        &error,
        ErrorClass::Plugin,
        &["requires a login: its token server answers 401", "docker login"],
    );
    // A token that does not help is not requested again and again.
    let server = with_tokens(|_| true, |_| false).await;
    let error = oci(&server).find(&latest()).await.unwrap_err();
    assert_error(&error, ErrorClass::Plugin, &["requires a login: 401"]);
    let tokens = server.log().iter().filter(|request| request.contains("/token")).count();
    assert_eq!(tokens, 1);
}

#[tokio::test]
async fn an_identity_token_is_changed_into_one_for_the_repository() {
    let server = with_tokens(
        |request| {
            let form: Vec<_> = url::form_urlencoded::parse(&request.body).into_owned().collect();
            let has = |key: &str, value: &str| form.contains(&(key.to_owned(), value.to_owned()));
            request.method == "POST" && has("grant_type", "refresh_token") && has("refresh_token", "id&entity")
        },
        |_| true,
    )
    .await;
    let host = server.host();
    let config = json!({"auths": {&host: {"identitytoken": "id&entity"}}});
    oci_as(&server, known(&host, &[], Some(config)).await)
        .find(&latest())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_of_the_environment_goes_to_its_registry_and_to_no_token_server() {
    let server = with_tokens(|_| true, |token| token == "given").await;
    let host = server.host();
    let vars = [
        ("AGENTHOST_REGISTRY", host.as_str()),
        ("AGENTHOST_REGISTRY_TOKEN", "given"),
    ];
    oci_as(&server, known(&host, &vars, None).await)
        .find(&latest())
        .await
        .unwrap();
    assert_eq!(server.log().len(), 1);
    let vars = [
        ("AGENTHOST_REGISTRY", host.as_str()),
        ("AGENTHOST_REGISTRY_TOKEN", "expired"),
    ];
    let error = oci_as(&server, known(&host, &vars, None).await)
        .find(&latest())
        .await
        .unwrap_err();
    assert_error(
        &error,
        ErrorClass::Plugin,
        &["refuses the login from the environment: 401"],
    );
    assert!(!server.log().iter().any(|request| request.contains("token")));
}

#[tokio::test]
async fn what_logs_in_goes_to_nobody_else() {
    let elsewhere = Server::start(|_| manifest()).await;
    let target = format!("http://{}/stored", elsewhere.host());
    let server = Server::start(move |_| Reply::new(307).with("location", &target)).await;
    let host = server.host();
    let vars = [
        ("AGENTHOST_REGISTRY", host.as_str()),
        ("AGENTHOST_REGISTRY_TOKEN", "given"),
    ];
    oci_as(&server, known(&host, &vars, None).await)
        .find(&latest())
        .await
        .unwrap();
    assert_eq!(server.seen()[0].header("authorization"), "Bearer given");
    assert_eq!(elsewhere.seen()[0].header("authorization"), "");

    // Nor to a token server whose connection anyone on the way could read.
    let server =
        Server::start(|_| Reply::new(401).with("www-authenticate", "Bearer realm=\"http://auth.example/\"")).await;
    let error = oci(&server).find(&latest()).await.unwrap_err();
    assert_error(&error, ErrorClass::Plugin, &["http://auth.example, which is not safe"]);
}

#[tokio::test]
async fn a_token_server_that_talks_nonsense_is_told_so() {
    for body in ["<html>", "{}", "{\"token\": \"a\\nb\"}", "[]"] {
        let server = Server::start(move |request| match request.path() {
            "/token" => Reply::new(200).body(body),
            _ => Reply::new(401).with("www-authenticate", "Bearer realm=\"/token\""),
        })
        .await;
        let error = oci(&server).find(&latest()).await.unwrap_err();
        assert!(with_causes(&error).contains("gives no token"), "{body}: {error}");
        assert_eq!(error.class(), ErrorClass::Plugin);
    }
}
