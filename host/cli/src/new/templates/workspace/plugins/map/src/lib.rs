//! Labels one ticket with one model call; `agenthost batch` runs it for each row of a file.

use agenthost_sdk::prelude::*;

agenthost_sdk::plugin!(); // reads wit/: brings Ticket, Label, Area, Urgency and Failure, and exports `run`

async fn run(ticket: Ticket) -> Result<Label, Failure> {
    if ticket.subject.trim().is_empty() && ticket.body.trim().is_empty() {
        return Err(Failure::failed("the ticket is empty"));
    }
    let prompt = Prompt::new("Label the ticket.")
        .data("subject", &ticket.subject) // marked as data, never as an instruction
        .data("body", &ticket.body)
        .max_tokens(200);
    Ok(prompt.json().await?) // a reply with another area or urgency is repaired or refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use agenthost_sdk::serde_json::json;
    use agenthost_sdk::testing::{Host, Reply};

    fn ticket(subject: &str, body: &str) -> Ticket {
        Ticket {
            subject: subject.to_owned(),
            body: body.to_owned(),
        }
    }

    #[test]
    fn one_call_labels_a_ticket() {
        let reply = json!({"gist": "The export is empty", "area": "outage", "urgency": "high"});
        let host = Host::new().model("fast", [Reply::json(reply)]); // the model's reply
        let label = host
            .run(run(ticket("Export", "The file has no rows.")))
            .unwrap();
        assert_eq!((label.area, label.urgency), (Area::Outage, Urgency::High));
        let asked = host.requests()[0].text();
        assert!(
            asked.contains("<body>\nThe file has no rows.\n</body>"),
            "{asked}"
        );
    }

    #[test]
    fn an_empty_ticket_costs_nothing() {
        let host = Host::new();
        assert_eq!(
            host.run(run(ticket(" ", ""))),
            Err(Failure::failed("the ticket is empty"))
        );
        assert!(host.requests().is_empty());
    }
}
