//! Sorts a batch of support tickets by category and priority, with one call of the fast model.
//!
//! The model answers by number and not by id, and this code assigns the labels: each ticket is returned once, in order,
//! and a ticket that the model left out has an error of its own. Left out: asking again for such a ticket.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!();

const CLERK: &str = "You sort support tickets. Judge each by what it says and not by how loudly it says it. A priority \
                     that a customer asks for is no reason for that priority.";

/// The model's answer.
#[derive(Deserialize, JsonSchema)]
struct Sorted {
    /// One label per ticket, in the order of the tickets.
    labels: Vec<Numbered>,
}

#[derive(Deserialize, JsonSchema)]
struct Numbered {
    /// The ticket's number.
    number: usize,
    /// Half a sentence.
    reason: String,
    category: Category,
    priority: Priority,
}

async fn run(tickets: Vec<Ticket>) -> Result<Vec<Result<Label, String>>, Failure> {
    if tickets.is_empty() {
        return Ok(Vec::new());
    }
    let mut prompt = Prompt::new("Give each of these tickets a label.").system(CLERK);
    for (number, ticket) in (1..).zip(&tickets) {
        let text = format!("Number: {number}\nSubject: {}\n\n{}", ticket.subject, ticket.text);
        prompt = prompt.data("ticket", text);
    }
    let room = u32::try_from(tickets.len()).unwrap_or(u32::MAX).saturating_mul(80);
    let sorted: Sorted = prompt.max_tokens(room.saturating_add(200)).json().await?;
    Ok(place(tickets, &sorted.labels))
}

/// Returns the label of each ticket, if exactly one has its number.
fn place(tickets: Vec<Ticket>, labels: &[Numbered]) -> Vec<Result<Label, String>> {
    let label = |(number, ticket): (usize, Ticket)| {
        let mut found = labels.iter().filter(|label| label.number == number);
        match (found.next(), found.next()) {
            (Some(label), None) => Ok(Label {
                id: ticket.id,
                category: label.category,
                priority: label.priority,
                reason: label.reason.clone(),
            }),
            (None, _) => Err(format!("the model gave no label for {}", ticket.id)),
            (Some(_), Some(_)) => Err(format!("the model gave several labels for {}", ticket.id)),
        }
    };
    (1..).zip(tickets).map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    fn ticket(id: &str) -> Ticket {
        Ticket {
            id: id.to_owned(),
            subject: String::new(),
            text: String::new(),
        }
    }

    fn numbered(number: usize, category: Category) -> Numbered {
        Numbered {
            number,
            reason: String::new(),
            category,
            priority: Priority::Low,
        }
    }

    #[test]
    fn each_ticket_comes_back_once_in_order_whatever_the_model_says() {
        let labels = [
            numbered(3, Category::Bug),
            numbered(1, Category::Billing),
            numbered(4, Category::Bug),
            numbered(4, Category::Other),
            numbered(9, Category::Other),
        ];
        let placed = place(["a", "b", "c", "d"].map(ticket).to_vec(), &labels);
        let brief: Vec<_> = placed
            .iter()
            .map(|label| label.as_ref().map(|label| (label.id.as_str(), label.category)))
            .collect();
        let (none, several) = (
            "the model gave no label for b".to_owned(),
            "the model gave several labels for d".to_owned(),
        );
        let expected = [
            Ok(("a", Category::Billing)),
            Err(&none),
            Ok(("c", Category::Bug)),
            Err(&several),
        ];
        assert_eq!(brief, expected);
    }

    #[test]
    fn the_samples_are_a_hundred_tickets_with_ids_of_their_own() {
        let lines = include_str!("../tickets.jsonl").lines();
        let tickets: Vec<Ticket> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut ids: Vec<&str> = tickets.iter().map(|ticket| ticket.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((tickets.len(), ids.len()), (100, 100));
        assert!(
            tickets
                .iter()
                .all(|ticket| !ticket.subject.is_empty() && !ticket.text.is_empty())
        );
    }

    #[test]
    fn one_call_sorts_all_tickets() {
        let label = |number| json!({"number": number, "reason": "It crashes.", "category": "bug", "priority": "high"});
        let host = Host::new().model("fast", [Reply::json(json!({"labels": [label(2)]}))]);
        let labels = host.run(run(["a", "b"].map(ticket).to_vec())).unwrap();
        assert_eq!(labels[0], Err("the model gave no label for a".to_owned()));
        assert!(
            labels[1]
                .as_ref()
                .is_ok_and(|label| label.id == "b" && label.category == Category::Bug)
        );
        assert_eq!((host.requests().len(), host.requests()[0].max_tokens), (1, Some(360)));
        assert_eq!(host.run(run(vec![])), Ok(vec![]), "without tickets, no model is asked");
    }
}
