"""Tables and plots for people, shared by notebooks, reports and model cards."""
