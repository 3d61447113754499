use super::*;

#[test]
fn canonical_forms() {
    let cases = [
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1024", "1024"),
        ("2000000", "2M"),
        ("1e3", "1e3"),
        ("12e4", "120e3"),
        ("0.5Ki", "512"),
        ("100Ki", "100Ki"),
        ("1Ki", "1Ki"),
        ("0", "0"),
        ("-1500m", "-1500m"),
        ("0.1n", "1n"),
        ("9007199254740988Ki", "9007199254740988Ki"),
        ("000123k", "123k"),
        ("1.G", "1G"),
        (".5", "500m"),
        ("1E", "1E"),
    ];
    for (text, want) in cases {
        assert_eq!(Quantity::parse(text).unwrap().to_string(), want, "{text}");
    }
}

#[test]
fn refuses() {
    for text in ["", "12Q", "1 Gi", "1.2.3"] {
        assert_eq!(
            Quantity::parse(text).unwrap_err(),
            QuantityError::Format,
            "{text}"
        );
    }
    for text in ["1mi", "1KiB5", "1Kii", "1iM"] {
        assert!(Quantity::parse(text).is_err(), "{text}");
    }
    assert_eq!(Quantity::parse("1KK").unwrap_err(), QuantityError::Suffix);
}

#[test]
fn counts_and_compares() {
    let mut q = Quantity::parse("100m").unwrap();
    q.add(Quantity::parse("1").unwrap());
    assert_eq!((q.milli_value(), q.value()), (1100, 2));
    assert_eq!(q.to_string(), "1100m");
    assert!(Quantity::parse("1Gi").unwrap() > Quantity::parse("1G").unwrap());
    assert_eq!(Quantity::parse("1000m").unwrap(), Quantity::parse("1").unwrap());
}
