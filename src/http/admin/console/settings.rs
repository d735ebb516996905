//! What can be changed while the relay runs.

use super::{
    Context, Response, acts,
    hosts::option,
    view::{self, Sheet},
    words::chosen,
};
use crate::{
    control::settings::{Choice, Setting},
    http::pages::html::Html,
};

pub(super) fn show(context: &Context<'_>) -> Result<Sheet, Response> {
    let mut main = Html::default();
    main.markup(
        "<p>A change is in force at once and after a restart, before what the configuration says. A reset \
         takes it back.</p>",
    );
    let now = context.app.policy.settings();
    main.markup("<div class=\"cards\">");
    for setting in Setting::ALL {
        main.add(&one(context, setting, now.get(setting)));
    }
    main.markup("</div>");
    Ok(Sheet {
        title: "Settings".to_owned(),
        lead: Html::default(),
        section: view::SETTINGS,
        is_live: false,
        main,
    })
}

fn one(context: &Context<'_>, setting: Setting, choice: Option<&Choice>) -> Html {
    let name = setting.name();
    let default = context.app.policy.default_of(setting);
    let value = choice.unwrap_or(&default);
    let mut html = Html::of(
        "<section class=\"card setting\" id=\"{}\" aria-labelledby=\"{}-name\">\
         <h2 id=\"{}-name\"><code>{}</code>",
        &[&name, &name, &name, &name],
    );
    if choice.is_some() {
        html.markup(" <span class=\"badge warn\">changed</span>");
    }
    html.put("</h2><p id=\"{}-meaning\">", &[&name]);
    html.marked_up(setting.meaning());
    html.markup("</p><div class=\"acts\">");
    let act = [("act", "settings/change"), ("setting", name)];
    html.add(&view::form(context, "acts", &act));
    html.put(
        "<div class=\"field\"><label for=\"{}-value\">Value<span class=\"hidden-text\"> of {}</span>\
         </label>",
        &[&name, &name],
    );
    html.add(&field(name, value));
    html.put(
        "</div><button>Change<span class=\"hidden-text\"> {}</span></button></form>",
        &[&name],
    );
    if choice.is_some() {
        html.add(&view::form(
            context,
            "acts",
            &[act[0], act[1], ("reset", "yes")],
        ));
        html.put(
            "<button>Reset<span class=\"hidden-text\"> {}</span></button></form>",
            &[&name],
        );
    }
    html.put(
        "</div><p class=\"small dim\">By default: {}</p></section>",
        &[&chosen(&default)],
    );
    html
}

/// Where the value is written.
fn field(name: &str, value: &Choice) -> Html {
    let shown = acts::shown(value);
    match value {
        Choice::Number(_) => Html::of(
            "<input type=\"text\" inputmode=\"numeric\" id=\"{}-value\" name=\"value\" value=\"{}\" \
             required autocomplete=\"off\" aria-describedby=\"{}-meaning\">",
            &[&name, &shown, &name],
        ),
        Choice::Switch(on) => Html::of(
            "<select id=\"{}-value\" name=\"value\" aria-describedby=\"{}-meaning\">{}{}</select>",
            &[
                &name,
                &name,
                &option("yes", "on", *on),
                &option("no", "off", !*on),
            ],
        ),
        Choice::Domains(_) => Html::of(
            "<textarea id=\"{}-value\" name=\"value\" rows=\"4\" cols=\"36\" class=\"mono\" \
             spellcheck=\"false\" aria-describedby=\"{}-meaning\">\n{}</textarea>",
            &[&name, &name, &shown],
        ),
    }
}
