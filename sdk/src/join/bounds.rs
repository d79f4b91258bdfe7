//! The bounds that every policy can set on its calls.

/// Adds the bounds to a policy, given the way to its branches.
macro_rules! bounds {
    ($policy:ident, $($branches:tt).+) => {
        impl<T, E> $policy<'_, T, E> {
            /// Sets the maximum number of calls that run at once; at least one runs.
            ///
            /// ```
            /// use agenthost_sdk::join::{self, branch};
            /// # let main = async {
            /// let lengths = ["one", "three"].map(|word| branch(word, async move { Ok::<_, &str>(word.len()) }));
            /// let done = join::all(lengths).max_concurrent(1).await.unwrap(); // one after the other
            /// assert_eq!((done[0].value, done[1].value), (3, 5));
            /// # };
            /// # futures_util::FutureExt::now_or_never(main).unwrap();
            /// ```
            pub fn max_concurrent(mut self, most: usize) -> Self {
                self.$($branches).+.max_concurrent(most);
                self
            }

            /// Gives each call an equal share of the tokens, the cost and the model calls that are left for sub-tasks
            /// when its first sub-task starts. Without it, the calls spend from a common rest, and the first ones may
            /// leave nothing for the last ones. A call does not get what others leave of their shares; the task does.
            ///
            /// ```
            /// use agenthost_sdk::join::{self, branch};
            /// # async fn research(company: &str) -> Result<String, String> { Ok(company.to_owned()) }
            /// # let main = async {
            /// let branches = ["Acme", "Globex"].map(|company| branch(company, research(company)));
            /// let results = join::settled(branches).split_equally().await;
            /// # assert_eq!(results.len(), 2);
            /// # };
            /// # futures_util::FutureExt::now_or_never(main).unwrap();
            /// ```
            pub fn split_equally(mut self) -> Self {
                self.$($branches).+.split_equally();
                self
            }

            /// Sets the fewest tokens with which a call is of use, for [`split_equally`](Self::split_equally). If there
            /// are not enough for all calls, the first ones get at least that much, and the others get none: they fail
            /// before they have spent anything.
            ///
            /// ```
            /// use agenthost_sdk::join::{self, branch};
            /// # async fn research(company: &str) -> Result<String, String> { Ok(company.to_owned()) }
            /// # let main = async {
            /// let branches = ["Acme", "Globex"].map(|company| branch(company, research(company)));
            /// let results = join::settled(branches).split_equally().least_tokens(1_000).await;
            /// # assert_eq!(results.len(), 2);
            /// # };
            /// # futures_util::FutureExt::now_or_never(main).unwrap();
            /// ```
            pub fn least_tokens(mut self, tokens: u64) -> Self {
                self.$($branches).+.least_tokens(tokens);
                self
            }

            /// Keeps `percent` (0 to 90) of what is left for sub-tasks from these calls, for calls after them. It comes
            /// on top of `keep-back` in the plugin's `Cargo.toml`, which is the rule for the whole task.
            ///
            /// ```
            /// use agenthost_sdk::join::{self, branch};
            /// # async fn draft(style: &str) -> Result<String, String> { Ok(style.to_owned()) }
            /// # let main = async {
            /// let drafts = ["plain", "formal"].map(|style| branch(style, draft(style)));
            /// let done = join::all(drafts).keep_back(30).await?; // for the second round
            /// # assert_eq!(done.len(), 2);
            /// # Ok::<(), join::Labeled<String>>(())
            /// # };
            /// # futures_util::FutureExt::now_or_never(main).unwrap().unwrap();
            /// ```
            pub fn keep_back(mut self, percent: u8) -> Self {
                self.$($branches).+.keep_back(percent);
                self
            }
        }
    };
}

pub(super) use bounds;
