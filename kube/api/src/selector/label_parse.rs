//! The string form of label selectors (`k8s.io/apimachinery/pkg/labels`).
use super::{LabelSelector, Operator, Requirement, SelectorError};
use crate::{goname, names};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Identifier,
    In,
    NotIn,
    Symbol,
    Error,
    End,
}

type Token = (Kind, String);

fn is_symbol(c: char) -> bool {
    "=!(),><".contains(c)
}

fn is_space(c: char) -> bool {
    " \t\r\n".contains(c)
}

fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(is_space);
        let Some(first) = rest.chars().next() else {
            tokens.push((Kind::End, String::new()));
            return tokens;
        };
        let (token, len) = if is_symbol(first) {
            lex_symbol(rest)
        } else {
            lex_word(rest)
        };
        tokens.push(token);
        rest = &rest[len..];
    }
}

fn lex_word(rest: &str) -> (Token, usize) {
    let end = rest.find(|c| is_symbol(c) || is_space(c)).unwrap_or(rest.len());
    let word = &rest[..end];
    let kind = match word {
        "in" => Kind::In,
        "notin" => Kind::NotIn,
        _ => Kind::Identifier,
    };
    ((kind, word.into()), end)
}

/// The longest of the known symbols at the start.
fn lex_symbol(rest: &str) -> (Token, usize) {
    for symbol in ["==", "!=", "=", "!", "(", ")", ",", ">", "<"] {
        if rest.starts_with(symbol) {
            return ((Kind::Symbol, symbol.into()), symbol.len());
        }
    }
    ((Kind::Error, rest.chars().take(1).collect()), 1)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

type Parsed<T> = Result<T, String>;

impl Parser {
    /// The next token where a value or key may stand: keywords are plain words there.
    fn peek(&self) -> (Kind, &str) {
        let last = self.tokens.len() - 1;
        let (kind, text) = &self.tokens[self.at.min(last)];
        let kind = if matches!(kind, Kind::In | Kind::NotIn) {
            Kind::Identifier
        } else {
            *kind
        };
        (kind, text)
    }

    fn next(&mut self) -> (Kind, String) {
        let (kind, text) = self.peek();
        let token = (kind, text.to_string());
        self.at += 1;
        token
    }

    fn at_symbol(&self, symbol: &str) -> bool {
        self.peek() == (Kind::Symbol, symbol)
    }

    fn starts_requirement(&self) -> bool {
        self.peek().0 == Kind::Identifier || self.at_symbol("!")
    }

    fn selector(&mut self) -> Parsed<Vec<Requirement>> {
        let mut out = Vec::new();
        loop {
            if self.peek().0 == Kind::End {
                return Ok(out);
            }
            if !self.starts_requirement() {
                return Err(format!(
                    "found '{}', expected: !, identifier, or 'end of string'",
                    self.peek().1
                ));
            }
            out.push(
                self.requirement()
                    .map_err(|e| format!("unable to parse requirement: {e}"))?,
            );
            match self.next() {
                (Kind::End, _) => return Ok(out),
                (Kind::Symbol, s) if s == "," => {
                    if !self.starts_requirement() {
                        return Err(format!(
                            "found '{}', expected: identifier after ','",
                            self.peek().1
                        ));
                    }
                }
                (_, text) => return Err(format!("found '{text}', expected: ',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Parsed<Requirement> {
        let negated = self.at_symbol("!");
        if negated {
            self.at += 1;
        }
        let (kind, key) = self.next();
        if kind != Kind::Identifier {
            return Err(format!("found '{key}', expected: identifier"));
        }
        let errors = names::qualified_name(&key);
        if !errors.is_empty() {
            return Err(format!(
                "<nil>: Invalid value: {}: {}",
                goname::quote(&key),
                errors.join("; ")
            ));
        }
        if negated {
            return Ok(Requirement {
                key,
                operator: Operator::DoesNotExist,
                values: vec![],
                exact: false,
            });
        }
        if self.peek().0 == Kind::End || self.at_symbol(",") {
            return Ok(Requirement {
                key,
                operator: Operator::Exists,
                values: vec![],
                exact: false,
            });
        }
        self.comparison(key)
    }

    fn comparison(&mut self, key: String) -> Parsed<Requirement> {
        let last = self.tokens.len() - 1;
        let (kind, text) = self.tokens[self.at.min(last)].clone();
        self.at += 1;
        let (operator, exact) = match (kind, text.as_str()) {
            (Kind::In, _) => (Operator::In, false),
            (Kind::NotIn, _) => (Operator::NotIn, false),
            (_, "=" | "==") => (Operator::In, true),
            (_, "!=") => (Operator::NotIn, true),
            (_, ">") => (Operator::GreaterThan, true),
            (_, "<") => (Operator::LessThan, true),
            _ => return Err(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")),
        };
        let mut values = if exact {
            vec![self.exact_value()?]
        } else {
            self.values()?
        };
        values.sort();
        values.dedup();
        check_values(&key, operator, &values)?;
        Ok(Requirement {
            key,
            operator,
            values,
            exact,
        })
    }

    fn exact_value(&mut self) -> Parsed<String> {
        if self.peek().0 == Kind::End || self.at_symbol(",") {
            return Ok(String::new());
        }
        match self.next() {
            (Kind::Identifier, text) => Ok(text),
            (_, text) => Err(format!("found '{text}', expected: identifier")),
        }
    }

    fn values(&mut self) -> Parsed<Vec<String>> {
        let (kind, text) = self.next();
        if (kind, text.as_str()) != (Kind::Symbol, "(") {
            return Err(format!("found '{text}' expected: '('"));
        }
        if self.at_symbol(")") {
            self.at += 1;
            return Ok(vec![String::new()]);
        }
        if self.peek().0 != Kind::Identifier && !self.at_symbol(",") {
            return Err(format!(
                "found '{}', expected: ',', ')' or identifier",
                self.peek().1
            ));
        }
        self.value_list()
    }

    /// Values up to the closing parenthesis; a missing one between commas is empty.
    fn value_list(&mut self) -> Parsed<Vec<String>> {
        let mut out = Vec::new();
        loop {
            let value = if self.peek().0 == Kind::Identifier {
                self.next().1
            } else {
                String::new()
            };
            out.push(value);
            match self.next() {
                (Kind::Symbol, s) if s == "," => {}
                (Kind::Symbol, s) if s == ")" => return Ok(out),
                (_, text) => return Err(format!("found '{text}', expected: ',' or ')'")),
            }
        }
    }
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> Parsed<()> {
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
        let bad = values.iter().find(|v| v.parse::<i64>().is_err());
        return bad.map_or(Ok(()), |v| {
            let words = "for 'Gt', 'Lt' operators, the value must be an integer";
            Err(format!("values[0]: Invalid value: {}: {words}", goname::quote(v)))
        });
    }
    for value in values {
        let errors = names::label_value(value);
        if !errors.is_empty() {
            let what = format!(
                "values[0][{key}]: Invalid value: {}: {}",
                goname::quote(value),
                errors.join("; ")
            );
            return Err(what);
        }
    }
    Ok(())
}

pub(super) fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
    let mut parser = Parser {
        tokens: lex(text),
        at: 0,
    };
    let mut requirements = parser.selector().map_err(SelectorError)?;
    requirements.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(LabelSelector {
        requirements,
        nothing: false,
    })
}
