"""How Mailpit judges the mails of every shipped template: by caniemail's table of what mail programs understand."""

from desk import HERE, Desk, need

RELAY = """[mail.smtp]
host = "127.0.0.1"
port = {port}
tls = "none"
"""

TEMPLATES = sorted(path.name for path in (HERE.parents[1] / "templates/email").iterdir())

#: What we want of each; the table names those that fall short, and nothing fails.
SUPPORTED, UNSUPPORTED = 92.0, 2.5


def judged(program, store, mailpit):
    """Every shipped template's mail arrives, and its numbers."""
    desk = Desk(program, store, mail='transport = "smtp"', more=RELAY.format(port=mailpit.smtp_port))
    bucket = desk.with_bucket("mails")
    store.fill(bucket, [f"2026/day {day}/photo {number}.jpg" for day in range(3) for number in range(4)])
    words = []
    for template in TEMPLATES:
        mail = {"to": ["ann@acme.example"], "template": template, "subject": f"[{template}] ready"}
        desk.job(template, bucket, email=mail, gallery={"title": "Photos", "publish": {"bucket": f"{bucket}-out"}}, vars={"customer": "ACME"})
        (message,) = [each for each in mailpit.ask("messages")["messages"] if each["Subject"] == mail["subject"]]
        need(message["To"][0]["Address"] == "ann@acme.example", f"{template}: it went to {message['To']}")
        total = mailpit.ask(f"message/{message['ID']}/html-check")["Total"]
        short = total["Supported"] < SUPPORTED or total["Unsupported"] > UNSUPPORTED
        words.append(f"{template} {total['Supported']:.1f} % supported, {total['Unsupported']:.1f} % not" + " (short of the goal)" * short)
    return "; ".join(words)
