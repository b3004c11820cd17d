"""The only room that sends: mail, files to post, PDFs."""
