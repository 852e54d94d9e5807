//! The data of an organization, or of all, line by line as JSON: page after page, with no transaction open between them.
//!
//! A line is its row as it was when its page was read. What is made or changed meanwhile is in the export or is not; what
//! was there from the beginning to the end is in it once.

use std::collections::VecDeque;

use serde_json::Value;
use uuid::Uuid;
use wharf_domain::{OrganizationId, Time};

use crate::{
    Backend, Ledger, StoreError,
    tables::{
        self, Exported, Form, TOP,
        kind::Kind,
        page::{Texts, Walk},
    },
};

/// The types that lines have.
pub fn kinds() -> impl Iterator<Item = &'static str> {
    tables::exported().map(|of| of.kind)
}

/// An export on its way.
pub struct Export {
    backend: Backend,
    organization: Option<OrganizationId>,
    /// The table in `TOP`.
    top: usize,
    /// Its walk; none before it begins.
    walk: Option<Place>,
    /// The rows of the page that was read last, whose children come next.
    parents: VecDeque<String>,
    /// The walk over children of the parent that is first in `parents`, and which of them.
    child: Option<(usize, Place)>,
}

struct Place {
    walk: Walk,
    after: Option<Vec<String>>,
    is_over: bool,
}

/// Lines of one type.
#[derive(Debug)]
pub struct Lines {
    /// The `type` of all of them.
    pub kind: &'static str,
    /// JSON objects, without the end of the line.
    pub lines: Vec<String>,
}

impl Export {
    /// An export of this organization, or of all.
    pub fn new(ledger: &Ledger, organization: Option<OrganizationId>) -> Self {
        Self {
            backend: ledger.backend(),
            organization,
            top: 0,
            walk: None,
            parents: VecDeque::new(),
            child: None,
        }
    }

    /// Returns the next lines, at most some mebibytes; `None` after the last.
    pub async fn next(&mut self, ledger: &Ledger) -> Result<Option<Lines>, StoreError> {
        while let Some(top) = TOP.get(self.top) {
            let lines = match (&mut self.child, self.parents.front()) {
                (Some((at, place)), _) => {
                    let of = &top.children[*at];
                    let rows = place.next(ledger).await?;
                    if place.is_over {
                        let next = *at + 1;
                        self.child = None;
                        self.begin_child(top, next);
                    }
                    lines(of, &rows)
                }
                (None, Some(_)) => {
                    self.begin_child(top, 0);
                    continue;
                }
                (None, None) => self.next_of_top(ledger, top).await?,
            };
            if !lines.lines.is_empty() {
                return Ok(Some(lines));
            }
        }
        Ok(None)
    }

    async fn next_of_top(
        &mut self,
        ledger: &Ledger,
        top: &'static Exported,
    ) -> Result<Lines, StoreError> {
        let (backend, organization) = (self.backend, &self.organization);
        let place = self.walk.get_or_insert_with(|| {
            Place::new(
                backend,
                top,
                organization.as_ref().map(OrganizationId::as_str),
            )
        });
        if place.is_over {
            self.top += 1;
            self.walk = None;
            return Ok(lines(top, &[]));
        }
        let rows = place.next(ledger).await?;
        if !top.children.is_empty() {
            let id = top.order.len()
                + top
                    .fields
                    .iter()
                    .take_while(|(column, ..)| *column != "id")
                    .count();
            self.parents
                .extend(rows.iter().filter_map(|row| row[id].clone()));
        }
        Ok(lines(top, &rows))
    }

    /// Begins with this child of the first parent; without such a child the parent is done.
    fn begin_child(&mut self, top: &'static Exported, at: usize) {
        match (top.children.get(at), self.parents.front()) {
            (Some(child), Some(parent)) => {
                self.child = Some((at, Place::new(self.backend, child, Some(parent))));
            }
            _ => {
                self.parents.pop_front();
            }
        }
    }
}

impl Place {
    fn new(backend: Backend, of: &Exported, owner: Option<&str>) -> Self {
        Self {
            walk: walk(backend, of, owner),
            after: None,
            is_over: false,
        }
    }

    async fn next(&mut self, ledger: &Ledger) -> Result<Vec<Texts>, StoreError> {
        let page = self
            .walk
            .page(&mut ledger.read().await?, self.after.as_deref())
            .await?;
        self.is_over = page.is_last;
        self.after = page
            .rows
            .last()
            .map(|row| self.walk.place(row))
            .or(self.after.take());
        Ok(page.rows)
    }
}

fn walk(backend: Backend, of: &Exported, owner: Option<&str>) -> Walk {
    let order = of
        .order
        .iter()
        .map(|(column, kind)| ((*column).to_owned(), *kind));
    let columns = of
        .fields
        .iter()
        .map(|(column, _, form)| form.kind().read(backend, column));
    let walk = Walk::new(backend, of.from, order.collect(), columns).only_where(of.condition);
    match owner {
        Some(text) => walk.only(of.owner.0, of.owner.1, text),
        None => walk,
    }
}

fn lines(of: &Exported, rows: &[Texts]) -> Lines {
    let line = |row: &Texts| {
        let mut line = format!("{{\"type\":\"{}\"", of.kind);
        // The columns of the order come first.
        for ((_, name, form), text) in of.fields.iter().zip(&row[of.order.len()..]) {
            line.push_str(&format!(",\"{name}\":{}", json(*form, text.as_deref())));
        }
        line.push('}');
        line
    };
    Lines {
        kind: of.kind,
        lines: rows.iter().map(line).collect(),
    }
}

fn json(form: Form, text: Option<&str>) -> String {
    let Some(text) = text else {
        return "null".into();
    };
    let number = || text.parse::<i64>().unwrap_or_default();
    let kind = match form {
        // A latency has far fewer digits than a float keeps.
        #[allow(clippy::cast_precision_loss)]
        Form::Millis => return Value::from(number() as f64 / 1_000.0).to_string(),
        Form::Plain(kind) => kind,
    };
    match kind {
        Kind::Int => text.to_owned(),
        Kind::Truth => (text == "1").to_string(),
        // Valid JSON has such characters only between its parts.
        Kind::Json => text.replace(['\n', '\r'], " "),
        Kind::Time => Value::from(Time::from_micros(number()).to_string()).to_string(),
        Kind::Uuid => {
            let id = Uuid::parse_str(text).map_or_else(|_| text.to_owned(), |id| id.to_string());
            Value::from(id).to_string()
        }
        Kind::Text | Kind::Money | Kind::Bytes => Value::from(text).to_string(),
    }
}

/// The statements of an export's pages after the first, as they are for one organization and for all. For tests of plans.
#[doc(hidden)]
pub fn page_statements(backend: Backend) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for top in TOP {
        for (of, owners) in std::iter::once((top, [Some("x"), None]))
            .chain(top.children.iter().map(|of| (of, [Some("00"), None])))
        {
            for owner in owners {
                // Children are always some parent's.
                if owner.is_none() && !std::ptr::eq(of, top) {
                    continue;
                }
                let after: Vec<String> = of.order.iter().map(|_| "0".to_owned()).collect();
                all.push((of.kind, walk(backend, of, owner).statement(Some(&after)).0));
            }
        }
    }
    all
}
