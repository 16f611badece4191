"""What the model is for, and where it is not to be trusted."""

from flight_delays.core.use_case import Card

PURPOSE = """\
The probability that a flight from New York (EWR, JFK, LGA) arrives 15 minutes late or more, asked two hours before its
scheduled departure: to plan gates, crews and connections, and to tell passengers how likely a delay is. It is a
forecast, not a promise about one flight, and no ground for judging an airline or its people."""
LIMITS = (
    "The aircraft is taken as known two hours before departure. Aircraft are swapped at shorter notice, and the data "
    "tells only which one flew.",
    "Departures count as known a quarter of an hour after they happened, arrivals half an hour after landing: a slower "
    "feed makes the model worse.",
    "It has seen New York in 2013 and nothing else: other airports, airlines and years are beyond it.",
    "Cancelled and diverted flights have no outcome: the forecast is the probability of being late given that the "
    "flight arrives where it should. Most cancellations fall on the worst days, which look milder than they were.",
    "Delays drift with the season: one year holds each season once, and weather that is rare in it was hardly learnt.",
    "Airlines pad their schedules: a change of schedule changes what counts as late without any flight changing.",
)

CARD = Card(purpose=PURPOSE, limits=LIMITS)
