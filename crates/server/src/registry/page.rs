//! What the registry does, in words, for people; and whether it lives, for probes.

use std::fmt::Write as _;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use rookeeper_registry::{Applications, LastLease, Preservation, Status};

use super::http::plain;
use super::metrics;
use super::service::Service;
use crate::ports::http::Caller;

/// Instances that are shown of one application.
const SHOWN: usize = 100;

/// Applications that are shown, and instances of all of them.
const APPLICATIONS_SHOWN: usize = 1000;
const ALL_SHOWN: usize = 2000;

pub(super) fn answer(service: &Service, caller: &Caller, path: &str) -> Response {
    let typed = |content_type, text: String| {
        let mut response = Response::new(service.outlet.body(Bytes::from(text).into(), caller, None));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    };
    let state = |text: &str, is_well: bool| {
        let mut response = typed("application/vnd.spring-boot.actuator.v3+json", text.to_owned());
        if !is_well {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    };
    match path {
        "/" if service.config.shows_page => typed("text/html; charset=utf-8", page(service)),
        "/health/live" => plain(StatusCode::OK, "The registry lives.\n"),
        "/health/ready" => match service.with(|registry, now| registry.shows_lists(now)) {
            true => plain(StatusCode::OK, "The registry shows lists.\n"),
            false => plain(StatusCode::SERVICE_UNAVAILABLE, "The registry does not show lists yet.\n"),
        },
        "/metrics" => typed(metrics::TEXT, metrics::page(service)),
        "/lastn" if service.config.shows_page => typed("text/html; charset=utf-8", last_leases(service)),
        // As Spring's servers answer probes.
        "/actuator/health" => state("{\"groups\":[\"liveness\",\"readiness\"],\"status\":\"UP\"}", true),
        "/actuator/health/liveness" => state("{\"status\":\"UP\"}", true),
        "/actuator/health/readiness" => match service.with(|registry, now| registry.shows_lists(now)) {
            true => state("{\"status\":\"UP\"}", true),
            false => state("{\"status\":\"OUT_OF_SERVICE\"}", false),
        },
        _ => plain(StatusCode::NOT_FOUND, "Nothing is here. Eureka's resources are under /eureka/.\n"),
    }
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Rookeeper service registry</title>\
     <style>body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}td,th{padding:.2em .8em;\
     text-align:left;border-bottom:1px solid #ccc}.bad{color:#b00}</style></head><body><h1>Service registry</h1>";

/// The leases that began and ended last.
fn last_leases(service: &Service) -> String {
    let [registered, cancelled] = service.with(|registry, _| registry.last_leases());
    let mut page = String::from(HEAD);
    for (title, leases) in [("Registered last", registered), ("Ended last", cancelled)] {
        // Writing into memory cannot fail.
        let _ = write!(page, "<h2>{title}</h2><table><tr><th>Time</th><th>Lease</th></tr>");
        for LastLease { wall_ms, app, id } in leases {
            let moment = jiff::Timestamp::from_millisecond(wall_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            let _ = write!(page, "<tr><td>{moment:.3}</td><td>{}({})</td></tr>", escaped(&app), escaped(&id));
        }
        page.push_str("</table>");
    }
    page.push_str("</body></html>");
    page
}

fn page(service: &Service) -> String {
    let (applications, preservation, open) =
        service.with(|registry, now| (registry.applications(), registry.preservation(now), registry.shows_lists(now)));
    let mut page = String::from(HEAD);
    // Writing into memory cannot fail.
    let _ = write!(page, "<p>{}</p>", preservation_in_words(preservation));
    if !open {
        page.push_str("<p class=\"bad\">Lists are not shown yet: no other registry has told what it knows.</p>");
    }
    if let Some(why) = service.ensemble.as_ref().and_then(super::ensemble::Ensemble::blind) {
        let _ = write!(
            page,
            "<p class=\"bad\">Services that are kept in the coordination tree are refused and not listed: the tree is out of sight ({}).</p>",
            escaped(&why)
        );
    }
    page.push_str("<p><a href=\"/lastn\">The leases that began and ended last</a></p>");
    peers(&mut page, service);
    list(&mut page, &applications);
    page.push_str("</body></html>");
    page
}

/// What self-preservation is doing, and why.
fn preservation_in_words(preservation: Preservation) -> String {
    let Preservation { enabled, clients, threshold, renewals, evicts, bucket_ends_in_ms } = preservation;
    if !enabled {
        return "Self-preservation is off: an instance that sends no heartbeats is removed when its lease ends, however \
                many fall silent at once."
            .to_owned();
    }
    let counted = format!(
        "{clients} clients are expected to send heartbeats. {renewals} heartbeats came in the last whole minute"
    );
    if evicts {
        return format!("{counted}, more than the {threshold} that are needed: leases end as usual.");
    }
    format!(
        "<span class=\"bad\">Self-preservation holds: no lease ends, and instances may be shown that are gone.</span> \
         {counted}; more than {threshold} are needed, so at least {} are missing. The next count is ready in {} s.",
        (threshold + 1).saturating_sub(renewals),
        bucket_ends_in_ms.div_ceil(1000)
    )
}

fn peers(page: &mut String, service: &Service) {
    let peers = service.peers.all();
    if peers.is_empty() {
        page.push_str("<p>There is no other registry.</p>");
        return;
    }
    page.push_str("<h2>Other registries</h2><table>");
    for peer in peers.iter() {
        let (waiting, answers) = peer.state();
        let state = match (peer.is_own(), answers) {
            (true, _) => "is this server".to_owned(),
            (false, true) => format!("answers; {waiting} instances have changes that it has not heard of"),
            (false, false) => {
                format!("<span class=\"bad\">does not answer</span>; changes of {waiting} instances wait for it")
            }
        };
        let _ = write!(page, "<tr><td>{}</td><td>{state}</td></tr>", escaped(&peer.address.to_string()));
    }
    page.push_str("</table>");
}

fn list(page: &mut String, applications: &Applications) {
    page.push_str("<h2>Applications</h2><table><tr><th>Application</th><th>Instances</th><th>Status</th></tr>");
    let mut left = ALL_SHOWN;
    for application in applications.applications.iter().take(APPLICATIONS_SHOWN) {
        let records = &application.records;
        let shown = records.len().min(SHOWN).min(left);
        left -= shown;
        let _ = write!(page, "<tr><td>{}</td><td>{}</td><td>", escaped(&application.name), records.len());
        for record in &records[..shown] {
            let instance = &record.instance;
            let class = if instance.status == Status::Up { "" } else { " class=\"bad\"" };
            let _ = write!(page, "<div{class}>{} {}</div>", instance.status.name(), escaped(&instance.id));
        }
        if records.len() > shown {
            let _ = write!(page, "<div>{} more are not shown</div>", records.len() - shown);
        }
        page.push_str("</td></tr>");
    }
    page.push_str("</table>");
    if applications.applications.len() > APPLICATIONS_SHOWN {
        let _ = write!(page, "<p>And {} applications more.</p>", applications.applications.len() - APPLICATIONS_SHOWN);
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
