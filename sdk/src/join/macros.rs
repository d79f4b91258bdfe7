//! `join!` and `try_join!`: several calls of different types at once.

/// Awaits two to eight calls at once, whatever their types, and gives their results as a tuple.
///
/// ```
/// use agenthost_sdk::prelude::*;
/// # async fn count() -> Result<u32, Failure> { Ok(2) }
/// # async fn name() -> Result<String, Failure> { Ok("Ada".to_owned()) }
/// # let main = async {
///
/// let (number, name) = join!(count(), name());
/// assert_eq!((number?, name?.as_str()), (2, "Ada"));
/// # Ok::<(), Failure>(())
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap().unwrap();
/// ```
///
/// Calls of the same type have more choices: [`join_all`](crate::join_all), and the policies of
/// [`join`](mod@crate::join).
#[macro_export]
macro_rules! join {
    ($a:expr, $b:expr $(,)?) => {
        $crate::__rt::future::join($a, $b).await
    };
    ($a:expr, $b:expr, $c:expr $(,)?) => {
        $crate::__rt::future::join3($a, $b, $c).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr $(,)?) => {
        $crate::__rt::future::join4($a, $b, $c, $d).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr $(,)?) => {
        $crate::__rt::future::join5($a, $b, $c, $d, $e).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr $(,)?) => {{
        let ((a, b, c), (d, e, f)) = $crate::__rt::future::join(
            $crate::__rt::future::join3($a, $b, $c),
            $crate::__rt::future::join3($d, $e, $f),
        )
        .await;
        (a, b, c, d, e, f)
    }};
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr $(,)?) => {{
        let ((a, b, c), (d, e, f, g)) = $crate::__rt::future::join(
            $crate::__rt::future::join3($a, $b, $c),
            $crate::__rt::future::join4($d, $e, $f, $g),
        )
        .await;
        (a, b, c, d, e, f, g)
    }};
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr $(,)?) => {{
        let ((a, b, c, d), (e, f, g, h)) = $crate::__rt::future::join(
            $crate::__rt::future::join4($a, $b, $c, $d),
            $crate::__rt::future::join4($e, $f, $g, $h),
        )
        .await;
        (a, b, c, d, e, f, g, h)
    }};
}

/// Awaits two to eight calls at once, whatever the types of their results, and gives these as a tuple. The first error
/// ends the other calls, and is the result; the calls have one type of error.
///
/// ```
/// use agenthost_sdk::prelude::*;
/// # async fn count() -> Result<u32, Failure> { Ok(2) }
/// # async fn name(known: bool) -> Result<String, Failure> {
/// #     if known { Ok("Ada".to_owned()) } else { Err(Failure::failed("no name")) }
/// # }
/// # let main = async {
///
/// let (number, known) = try_join!(count(), name(true))?;
/// assert_eq!((number, known.as_str()), (2, "Ada"));
///
/// let failed = try_join!(name(false), count(), std::future::pending::<Result<bool, Failure>>());
/// assert_eq!(failed, Err(Failure::failed("no name")));
/// # Ok::<(), Failure>(())
/// # };
/// # futures_util::FutureExt::now_or_never(main).unwrap().unwrap();
/// ```
#[macro_export]
macro_rules! try_join {
    ($a:expr, $b:expr $(,)?) => {
        $crate::__rt::future::try_join($a, $b).await
    };
    ($a:expr, $b:expr, $c:expr $(,)?) => {
        $crate::__rt::future::try_join3($a, $b, $c).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr $(,)?) => {
        $crate::__rt::future::try_join4($a, $b, $c, $d).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr $(,)?) => {
        $crate::__rt::future::try_join5($a, $b, $c, $d, $e).await
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr $(,)?) => {
        match $crate::__rt::future::try_join(
            $crate::__rt::future::try_join3($a, $b, $c),
            $crate::__rt::future::try_join3($d, $e, $f),
        )
        .await
        {
            Ok(((a, b, c), (d, e, f))) => Ok((a, b, c, d, e, f)),
            Err(error) => Err(error),
        }
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr $(,)?) => {
        match $crate::__rt::future::try_join(
            $crate::__rt::future::try_join3($a, $b, $c),
            $crate::__rt::future::try_join4($d, $e, $f, $g),
        )
        .await
        {
            Ok(((a, b, c), (d, e, f, g))) => Ok((a, b, c, d, e, f, g)),
            Err(error) => Err(error),
        }
    };
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr $(,)?) => {
        match $crate::__rt::future::try_join(
            $crate::__rt::future::try_join4($a, $b, $c, $d),
            $crate::__rt::future::try_join4($e, $f, $g, $h),
        )
        .await
        {
            Ok(((a, b, c, d), (e, f, g, h))) => Ok((a, b, c, d, e, f, g, h)),
            Err(error) => Err(error),
        }
    };
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    #[test]
    fn each_number_of_calls_keeps_its_order() {
        let of = |n: u8| async move { n };
        let ok = |n: u8| async move { Ok::<_, String>(n) };
        let main = async {
            assert_eq!(join!(of(1), of(2)), (1, 2));
            assert_eq!(join!(of(1), of(2), of(3)), (1, 2, 3));
            assert_eq!(join!(of(1), of(2), of(3), of(4)), (1, 2, 3, 4));
            assert_eq!(join!(of(1), of(2), of(3), of(4), of(5),), (1, 2, 3, 4, 5));
            assert_eq!(join!(of(1), of(2), of(3), of(4), of(5), of(6)), (1, 2, 3, 4, 5, 6));
            assert_eq!(
                join!(of(1), of(2), of(3), of(4), of(5), of(6), of(7)),
                (1, 2, 3, 4, 5, 6, 7)
            );
            assert_eq!(
                join!(of(1), of(2), of(3), of(4), of(5), of(6), of(7), async { "h" }),
                (1, 2, 3, 4, 5, 6, 7, "h")
            );
            assert_eq!(try_join!(ok(1), ok(2), async { Ok('c') }), Ok((1, 2, 'c')));
            assert_eq!(try_join!(ok(1), ok(2), ok(3), ok(4)), Ok((1, 2, 3, 4)));
            assert_eq!(try_join!(ok(1), ok(2), ok(3), ok(4), ok(5)), Ok((1, 2, 3, 4, 5)));
            assert_eq!(
                try_join!(ok(1), ok(2), ok(3), ok(4), ok(5), ok(6), ok(7), ok(8)),
                Ok((1, 2, 3, 4, 5, 6, 7, 8))
            );
            assert_eq!(
                try_join!(ok(1), ok(2), ok(3), ok(4), ok(5), ok(6), ok(7)),
                Ok((1, 2, 3, 4, 5, 6, 7))
            );
            let never = std::future::pending::<Result<u8, String>>();
            let failed = async { Err::<u8, _>("no".to_owned()) };
            assert_eq!(
                try_join!(ok(1), never, ok(3), ok(4), ok(5), failed),
                Err("no".to_owned())
            );
        };
        main.now_or_never().unwrap();
    }
}
