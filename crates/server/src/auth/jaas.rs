//! JAAS files: the login configurations of Java, which hold the users and passwords of SASL.
//!
//! `Section { module.Class required option="value" …; };`, as often as there are sections. What always holds: any bytes are a list of
//! sections or are refused with a line and a remedy; no value of an option, which may be a password, is ever shown. Text in double quotes
//! has the escapes of a Java string and ends with its line. Where Java drops what follows a lone `/` without a word, the file is refused.
//!
//! Counterpart in Java: `javax.security.auth.login.Configuration` of type `JavaLoginConfig`.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// A named list of login modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The name by which a program asks for it.
    pub name: String,
    /// Its modules, in the order of the file.
    pub modules: Vec<Module>,
    /// Line where it begins, from 1.
    pub line: usize,
}

/// A login module with its options.
#[derive(Clone, PartialEq, Eq)]
pub struct Module {
    /// Its class.
    pub class: String,
    /// Whether the login depends on it. Of no consequence for a section of a single module.
    pub flag: Flag,
    /// Its options. A later value of the same name takes the place of an earlier one.
    pub options: Vec<(String, String)>,
    /// Line where it begins, from 1.
    pub line: usize,
}

/// What the success of a module means for the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// It must succeed.
    Required,
    /// It must succeed, or the modules behind it are not asked.
    Requisite,
    /// If it succeeds, the modules behind it are not asked.
    Sufficient,
    /// It may fail.
    Optional,
}

impl Module {
    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.options.iter().map(|(name, _)| name.as_str()).collect();
        let Module { class, flag, line, options: _ } = self;
        formatter
            .debug_struct("Module")
            .field("class", class)
            .field("flag", flag)
            .field("options", &names)
            .field("line", line)
            .finish()
    }
}

/// Why a text is no JAAS file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct Malformed {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong. Quotes nothing that could be a secret.
    pub problem: String,
    /// What to write instead.
    pub remedy: &'static str,
}

/// Reads all sections of a file. `property` gives the value of a Java property for `${name}` in an option.
pub fn parse(bytes: &[u8], property: &dyn Fn(&str) -> Option<String>) -> Result<Vec<Section>, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|error| Malformed {
        line: 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count(),
        problem: "there are bytes that are not UTF-8".to_owned(),
        remedy: "Save the file as UTF-8.",
    })?;
    let mut reader = Reader { tokens: Tokens { characters: text.chars().peekable(), line: 1 }, next: None, property };
    let mut sections: Vec<Section> = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    while let Some(section) = reader.section()? {
        if !names.insert(section.name.clone()) {
            return Err(Malformed {
                line: section.line,
                problem: format!("there are two sections {}", short(&section.name)),
                remedy: "Each section must have a name of its own.",
            });
        }
        sections.push(section);
    }
    Ok(sections)
}

/// Names are shown, but not those that nobody would give.
fn short(name: &str) -> String {
    name.chars().take(60).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// With or without quotes.
    Text(String),
    /// One of `{`, `}`, `;`, `=`.
    Mark(char),
    End,
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    next: Option<(usize, Token)>,
    property: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    fn take(&mut self) -> Result<(usize, Token), Malformed> {
        match self.next.take() {
            Some(token) => Ok(token),
            None => self.tokens.next(),
        }
    }

    /// Whether this mark comes next; then it is taken.
    fn skip(&mut self, mark: char) -> Result<bool, Malformed> {
        let token = self.take()?;
        if token.1 == Token::Mark(mark) {
            return Ok(true);
        }
        self.next = Some(token);
        Ok(false)
    }

    fn text(&mut self, expected: &'static str) -> Result<(usize, String), Malformed> {
        match self.take()? {
            (line, Token::Text(text)) => Ok((line, text)),
            (line, found) => Err(unexpected(line, expected, &found)),
        }
    }

    fn mark(&mut self, mark: char, where_: &str) -> Result<(), Malformed> {
        match self.take()? {
            (_, Token::Mark(found)) if found == mark => Ok(()),
            (line, found) => Err(unexpected(line, &format!("{mark} {where_}"), &found)),
        }
    }

    fn section(&mut self) -> Result<Option<Section>, Malformed> {
        let (line, name) = match self.take()? {
            (_, Token::End) => return Ok(None),
            (line, Token::Text(name)) => (line, name),
            (line, found) => return Err(unexpected(line, "the name of a section", &found)),
        };
        self.mark('{', "behind the name of a section")?;
        let mut modules = Vec::new();
        while !self.skip('}')? {
            modules.push(self.module()?);
        }
        self.mark(';', "behind the } of a section")?;
        Ok(Some(Section { name, modules, line }))
    }

    fn module(&mut self) -> Result<Module, Malformed> {
        let (line, class) = self.text("the class of a login module")?;
        let (flag_line, flag) = self.text("required, requisite, sufficient or optional")?;
        let flag = match flag.to_ascii_lowercase().as_str() {
            "required" => Flag::Required,
            "requisite" => Flag::Requisite,
            "sufficient" => Flag::Sufficient,
            "optional" => Flag::Optional,
            _ => {
                return Err(Malformed {
                    line: flag_line,
                    problem: "the class of a login module is not followed by a flag".to_owned(),
                    remedy: "Write required behind the class.",
                });
            }
        };
        let mut options: Vec<(String, String)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        while !self.skip(';')? {
            let (_, name) = self.text("an option, or ; behind the last one")?;
            self.mark('=', "behind the name of an option")?;
            let (line, value) = self.text("the value of an option")?;
            let value = self.expanded(line, value)?;
            match places.get(&name) {
                Some(place) => {
                    let option: &mut (String, String) = &mut options[*place];
                    option.1 = value;
                }
                None => {
                    places.insert(name.clone(), options.len());
                    options.push((name, value));
                }
            }
        }
        Ok(Module { class, flag, options, line })
    }

    /// `${/}` is the separator of paths, `${name}` a property, `${{…}}` is left as it is.
    fn expanded(&self, line: usize, value: String) -> Result<String, Malformed> {
        if !value.contains("${") {
            return Ok(value);
        }
        let (mut expanded, mut rest) = (String::new(), value.as_str());
        while let Some(start) = rest.find("${") {
            let (before, behind) = rest.split_at(start);
            expanded.push_str(before);
            let nested = behind.starts_with("${{");
            let Some(end) = behind.find(if nested { "}}" } else { "}" }) else {
                rest = behind;
                break;
            };
            if nested {
                let (whole, behind) = behind.split_at(end + 2);
                expanded.push_str(whole);
                rest = behind;
                continue;
            }
            let name = &behind[2..end];
            match (name, (self.property)(name)) {
                ("/" | "file.separator", _) => expanded.push('/'),
                (_, Some(text)) => expanded.push_str(&text),
                (_, None) => {
                    return Err(Malformed {
                        line,
                        problem: "an option refers to a property that is not set".to_owned(),
                        remedy: "Set what stands between ${ and } with -D in JVMFLAGS, or write the value itself.",
                    });
                }
            }
            rest = &behind[end + 1..];
        }
        expanded.push_str(rest);
        Ok(expanded)
    }
}

/// A text may be a password that lacks its quotes, so it is not shown.
fn unexpected(line: usize, expected: &str, found: &Token) -> Malformed {
    let found = match found {
        Token::Text(_) => "a word".to_owned(),
        Token::Mark(mark) => mark.to_string(),
        Token::End => "the end of the file".to_owned(),
    };
    Malformed {
        line,
        problem: format!("expected {expected}, found {found}"),
        remedy: "A section is: Name { module.Class required option=\"value\"; };",
    }
}

struct Tokens<'a> {
    characters: Peekable<Chars<'a>>,
    line: usize,
}

impl Tokens<'_> {
    fn bump(&mut self) -> Option<char> {
        let character = self.characters.next();
        self.line += usize::from(character == Some('\n'));
        character
    }

    /// The next token and its line.
    fn next(&mut self) -> Result<(usize, Token), Malformed> {
        loop {
            let Some(character) = self.bump() else { return Ok((self.line, Token::End)) };
            let line = self.line;
            match character {
                character if character <= ' ' || character == '\u{feff}' => {}
                '{' | '}' | ';' | '=' => return Ok((line, Token::Mark(character))),
                '/' => self.comment(line)?,
                '"' => return Ok((line, Token::Text(self.quoted(line)?))),
                character if is_word(character) => {
                    let mut word = String::from(character);
                    while let Some(more) = self.characters.next_if(|next| is_word(*next)) {
                        word.push(more);
                    }
                    return Ok((line, Token::Text(word)));
                }
                character => {
                    return Err(Malformed {
                        line,
                        problem: format!("there is a {} outside of quotes", character.escape_default()),
                        remedy: "Put values with such characters into double quotes; comments begin with //.",
                    });
                }
            }
        }
    }

    /// Behind a `/`.
    fn comment(&mut self, line: usize) -> Result<(), Malformed> {
        match self.bump() {
            Some('/') => while !matches!(self.bump(), None | Some('\n')) {},
            Some('*') => loop {
                match self.bump() {
                    Some('*') if self.characters.peek() == Some(&'/') => {
                        self.bump();
                        break;
                    }
                    Some(_) => {}
                    None => {
                        return Err(Malformed {
                            line,
                            problem: "a comment that begins with /* has no end".to_owned(),
                            remedy: "End it with */.",
                        });
                    }
                }
            },
            _ => {
                return Err(Malformed {
                    line,
                    problem: "there is a / outside of quotes, and Java would ignore the rest of its line".to_owned(),
                    remedy: "Put values with such characters into double quotes; comments begin with //.",
                });
            }
        }
        Ok(())
    }

    /// Behind the opening quote.
    fn quoted(&mut self, line: usize) -> Result<String, Malformed> {
        let mut text = String::new();
        loop {
            match self.characters.peek() {
                None | Some('\n' | '\r') => {
                    return Err(Malformed {
                        line,
                        problem: "a text in quotes does not end on its line".to_owned(),
                        remedy: "End it with a double quote; \\\" is a quote within it.",
                    });
                }
                Some(_) => {}
            }
            match self.bump() {
                Some('"') => return Ok(text),
                Some('\\') => text.extend(self.escaped()),
                Some(character) => text.push(character),
                None => {}
            }
        }
    }

    /// Behind a backslash. None at the end of a line, which ends the text too.
    fn escaped(&mut self) -> Option<char> {
        let character = self.characters.next_if(|next| !matches!(next, '\n' | '\r'))?;
        let Some(first) = character.to_digit(8) else {
            return Some(match character {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                character => character,
            });
        };
        // Up to \377.
        let mut code = first;
        for _ in 0..if first <= 3 { 2 } else { 1 } {
            match self.characters.peek().and_then(|next| next.to_digit(8)) {
                Some(digit) => code = code * 8 + digit,
                None => break,
            }
            self.characters.next();
        }
        char::from_u32(code)
    }
}

/// As in Java's files, and digits may come first.
fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '$' | '_' | '-' | '*' | '.') || character >= '\u{a0}'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    fn read(text: &str) -> Result<Vec<Section>, Malformed> {
        parse(text.as_bytes(), &none)
    }

    fn module(line: usize, class: &str, options: &[(&str, &str)]) -> Module {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Module { class: class.to_owned(), flag: Flag::Required, options, line }
    }

    #[test]
    fn files_as_the_guide_of_the_original_shows_them() {
        let text = "Server {\n    org.apache.zookeeper.server.auth.DigestLoginModule required\n    user_super=\"adminsecret\"\n    \
                    user_bob=\"bobsecret\";\n};\nClient {\n  com.sun.security.auth.module.Krb5LoginModule required\n  \
                    useKeyTab=true\n  keyTab=\"/path/to/keytab\"\n  storeKey=true\n  useTicketCache=false\n  \
                    principal=\"zookeeper/host@REALM\";\n};\n";
        let digest = module(
            2,
            "org.apache.zookeeper.server.auth.DigestLoginModule",
            &[("user_super", "adminsecret"), ("user_bob", "bobsecret")],
        );
        let kerberos = module(
            7,
            "com.sun.security.auth.module.Krb5LoginModule",
            &[
                ("useKeyTab", "true"),
                ("keyTab", "/path/to/keytab"),
                ("storeKey", "true"),
                ("useTicketCache", "false"),
                ("principal", "zookeeper/host@REALM"),
            ],
        );
        let sections = read(text).unwrap();
        assert_eq!(
            sections,
            [
                Section { name: "Server".to_owned(), modules: vec![digest], line: 1 },
                Section { name: "Client".to_owned(), modules: vec![kerberos], line: 6 },
            ]
        );
        assert_eq!(sections[0].modules[0].option("user_bob"), Some("bobsecret"));
        assert_eq!(sections[0].modules[0].option("user_joe"), None);
    }

    #[test]
    fn comments_quotes_escapes_and_repeated_options() {
        let text = "// first\n/* second\n * third */ \"A b\" { a.B REQUIRED // why\n x=\"1\\\"\\\\\\t\\101\\08 ;{}=//\" x=\"2\" \
                    y-z=\"\" ; c.D optional; };\nB{};";
        let sections = read(text).unwrap();
        assert_eq!(sections[0].modules[0], module(3, "a.B", &[("x", "2"), ("y-z", "")]));
        assert_eq!(sections[0].modules[1].flag, Flag::Optional);
        assert_eq!((sections[0].name.as_str(), sections[0].line), ("A b", 3));
        assert_eq!(sections[1], Section { name: "B".to_owned(), modules: vec![], line: 5 });
        let sections = read("A { a.B required x=\"1\\\"\\\\\\t\\101\\08 ;{}=//ü\"; };").unwrap();
        assert_eq!(sections[0].modules[0].option("x"), Some("1\"\\\tA\u{0}8 ;{}=//ü"));
        assert_eq!(read("").unwrap(), []);
    }

    #[test]
    fn properties_are_put_in() {
        let property = |name: &str| (name == "user.home").then(|| "/home/zoe".to_owned());
        let read = |value: &str| {
            let text = format!("A {{ a.B required x=\"{value}\"; }};");
            parse(text.as_bytes(), &property).map(|sections| sections[0].modules[0].options[0].1.clone())
        };
        assert_eq!(read("${user.home}${/}keytab").unwrap(), "/home/zoe/keytab");
        assert_eq!(read("a${{b}}c${d").unwrap(), "a${{b}}c${d");
        assert_eq!(read("$100").unwrap(), "$100");
        assert!(read("${nothing}").unwrap_err().problem.contains("not set"));
    }

    #[test]
    fn what_is_no_jaas_file_is_refused_with_its_line() {
        for (text, line, problem) in [
            ("Server", 1, "expected { behind the name of a section, found the end of the file"),
            ("Server {\n a.B\n};", 3, "expected required, requisite, sufficient or optional, found }"),
            ("Server {\n a.B needed;\n};", 2, "the class of a login module is not followed by a flag"),
            ("Server {\n a.B required user_bob=secret\n};", 3, "expected an option, or ; behind the last one, found }"),
            ("Server { a.B required; }", 1, "expected ; behind the } of a section, found the end of the file"),
            ("Server { a.B required user_bob; };", 1, "expected = behind the name of an option, found ;"),
            ("A {};\nA {};", 2, "there are two sections A"),
            ("A { a.B required x=\"secret\n; };", 1, "a text in quotes does not end on its line"),
            ("A { a.B required x=\"secret\\\n\"; };", 1, "a text in quotes does not end on its line"),
            ("A { a.B required x='secret'; };", 1, "there is a \\' outside of quotes"),
            ("\n# comment", 2, "there is a # outside of quotes"),
            (
                "A { a.B required keyTab=/path; };",
                1,
                "there is a / outside of quotes, and Java would ignore the rest of its line",
            ),
            ("/* A", 1, "a comment that begins with /* has no end"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!((error.line, error.problem.as_str()), (line, problem), "{text}");
            assert!(!error.remedy.is_empty() && !error.problem.contains("secret"), "{error}");
        }
        assert_eq!(parse(b"A {\n\xff", &none).unwrap_err().line, 2);
    }

    #[test]
    fn passwords_are_not_shown() {
        let sections = read("Server { a.B required user_bob=\"hunter2\"; };").unwrap();
        let shown = format!("{sections:?}");
        assert!(shown.contains("user_bob") && !shown.contains("hunter2"), "{shown}");
    }
}
